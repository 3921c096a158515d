"""What a clone adds to the plugin: stacks of its own, and faults to break them with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from fixtures import options
from fixtures.faults.pages import listing
from mlflow_proxy_e2e import access_log
from mlflow_proxy_e2e.report.terminal import say
from mlflow_proxy_e2e.stack import Stack
from mlflow_proxy_e2e.stash import STACK

pytest_plugins = ("mlflow_proxy_e2e.plugin",)
TESTS = Path(__file__).parent / "tests"


def pytest_addoption(parser: pytest.Parser) -> None:
    options.declare(parser)


def pytest_configure() -> None:
    access_log.READERS["docker"] = _docker_log


def pytest_cmdline_main(config: pytest.Config) -> int | None:
    if config.option.list_faults:
        print(listing())  # noqa: T201
        return pytest.ExitCode.OK
    return None


def pytest_mlflow_stack(config: pytest.Config) -> Stack | None:
    return options.stack(config)


def pytest_mlflow_tests() -> Mapping[str, Path]:
    return {"outages": TESTS / "outages", "containers": TESTS / "containers"}


def pytest_unconfigure(config: pytest.Config) -> None:
    """Keep the stack running after the run, if requested, before the plugin stops it."""
    if config.option.keep_stack and (stack := config.stash.get(STACK, None)):
        say(config, f"Still running:\n{stack.keep()}")


def _docker_log(container: str) -> str:
    from fixtures.stack import engine  # slow to import, and most runs do not need it

    return engine.log(container)
