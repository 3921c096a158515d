"""Hooks for what the plugin does not know itself: a clone implements them in its conftest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from mlflow_proxy_e2e.stack import Stack


@pytest.hookspec(firstresult=True)
def pytest_mlflow_stack(config: pytest.Config) -> Stack | None:
    """Return the stack to test, not yet started, or None to leave that to another hook, and finally to ``--target``.

    Raises SuiteError.
    """


@pytest.hookspec
def pytest_mlflow_tests(config: pytest.Config) -> Mapping[str, Path]:  # type: ignore[empty-body]
    """Return the folder of the tests that need a stack, by their marker."""
