"""Tells which of a target's tests the command line selects."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_proxy_e2e.suite_folder import TESTS


def runs_everything(config: pytest.Config) -> bool:
    """Tell whether the command line selects all tests of a target: no mark, name, route or file narrows it down."""
    narrowing = ("keyword", "deselect", "ignore", "ignore_glob", "lf", "stepwise", "--route", "--identity")
    places = [Path(config.invocation_params.dir, argument).resolve() for argument in config.args]
    return (
        config.option.markexpr in ("", "e2e")
        and not any(config.getoption(name, None) for name in narrowing)
        and any(TESTS.is_relative_to(place) for place in places)
    )
