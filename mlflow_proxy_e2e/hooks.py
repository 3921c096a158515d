"""The hooks by which others give the plugin what it does not know itself: a clone implements them in its conftest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from mlflow_proxy_e2e.stack import Stack


@pytest.hookspec(firstresult=True)
def pytest_mlflow_stack(config: pytest.Config) -> Stack | None:
    """Return the stack to run against, not yet started, or None to leave that to others: in the end to ``--target``.

    Raises SuiteError.
    """


@pytest.hookspec
def pytest_mlflow_tests(config: pytest.Config) -> Mapping[str, Path]:  # type: ignore[empty-body]
    """Return, by the marker of tests that need a stack, the folder that they are in."""
