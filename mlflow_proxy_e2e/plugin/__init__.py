"""The pytest plugin: runs tests of a target, and reports what came of them.

In a clone the root conftest registers it, and where the package is installed ``pytest_entry``.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from pathlib import Path

import pytest

from mlflow_proxy_e2e import hooks, options
from mlflow_proxy_e2e.deployed import DeployedStack
from mlflow_proxy_e2e.errors import BadOptionError, SuiteError
from mlflow_proxy_e2e.plugin.session import stack_of
from mlflow_proxy_e2e.suite_folder import TESTS

# In this order: what a session leaves on a target is removed before the result is delivered, which tells of what could not be.
pytest_plugins = (
    "mlflow_proxy_e2e.plugin.redaction",
    "mlflow_proxy_e2e.plugin.session",
    "mlflow_proxy_e2e.plugin.workers",
    "mlflow_proxy_e2e.plugin.result",
)
MARKERS = (
    "e2e: runs against a target: a stack of our own, or a deployed environment",
    "smoke: what must work for anybody to work at all, in seconds",
    "capability(*names): needs a target that declares these capabilities, and an MLflow that has them",
    "parametrize_by_target(names, values): as parametrize, with what a function of the target returns",
    "since(version): needs an MLflow of this version or a newer one, where no missing endpoint tells that it is too old",
    "judges_policy: holds the target to its own policy, and is not skipped where that differs from the table of endpoints",
    "severity(name): how bad it is that the test fails (default: by its subject, see mlflow_proxy_e2e/severity.py)",
    "subject(name): what reports count the test under (default: what its file is about)",
)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(hooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    options.declare(parser)


def pytest_configure(config: pytest.Config) -> None:
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    gc.freeze()  # what has been imported is never garbage, and to look for that takes a second at the end of every process


def pytest_mlflow_tests() -> Mapping[str, Path]:
    return {"e2e": TESTS, "smoke": TESTS}


def pytest_cmdline_main(config: pytest.Config) -> int | None:
    return _sweep(config) if config.option.sweep else None


def _sweep(config: pytest.Config) -> int:
    try:
        stack = stack_of(config)
        if not isinstance(stack, DeployedStack):
            raise BadOptionError("--sweep needs --target=FILE, the profile of the target: a stack of our own leaves nothing.")
        swept = stack.sweep()
    except SuiteError as error:
        print(error)  # noqa: T201
        return error.exit_code
    print(swept)  # noqa: T201
    return swept.exit_code
