"""The pytest plugin: runs tests of a target, and reports their outcome.

In a clone, the root conftest registers it; where the package is installed, ``pytest_entry`` does.
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

# In this order: what a session leaves on a target is removed before the result is delivered, which lists what could not be.
pytest_plugins = (
    "mlflow_proxy_e2e.plugin.redaction",
    "mlflow_proxy_e2e.plugin.session",
    "mlflow_proxy_e2e.plugin.workers",
    "mlflow_proxy_e2e.plugin.result",
)
MARKERS = (
    "e2e: runs against a target: the suite's own stack, or a deployed environment",
    "smoke: the essentials, in seconds",
    "capability(*names): needs a target that declares these capabilities, and an MLflow that has them",
    "parametrize_by_target(names, values): as parametrize, with values that a function returns for the target",
    "since(version): needs an MLflow of this version or a newer one, where no missing endpoint shows that it is too old",
    "judges_policy: checks the target's own policy, so it is not skipped where that differs from the table of endpoints",
    "severity(name): how bad it is if the test fails (default: by its subject, see mlflow_proxy_e2e/severity.py)",
    "subject(name): what reports count the test under (default: what its file is about)",
)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(hooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    options.declare(parser)


def pytest_configure(config: pytest.Config) -> None:
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    gc.freeze()  # imported modules are never garbage, and looking for garbage at the end of every process takes a second


def pytest_mlflow_tests() -> Mapping[str, Path]:
    return {"e2e": TESTS, "smoke": TESTS}


def pytest_cmdline_main(config: pytest.Config) -> int | None:
    return _sweep(config) if config.option.sweep else None


def _sweep(config: pytest.Config) -> int:
    try:
        stack = stack_of(config)
        if not isinstance(stack, DeployedStack):
            raise BadOptionError("--sweep needs --target=FILE, the profile of the target: the suite's own stacks leave nothing.")
        swept = stack.sweep()
    except SuiteError as error:
        print(error)  # noqa: T201
        return error.exit_code
    print(swept)  # noqa: T201
    return swept.exit_code
