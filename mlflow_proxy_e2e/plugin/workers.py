"""The data that the controller of pytest-xdist hands to its workers, and that they hand back."""

from __future__ import annotations

from typing import Any

import pytest

from mlflow_proxy_e2e.endpoints.coverage import COVERAGE, Coverage
from mlflow_proxy_e2e.plugin.session import limit_traffic
from mlflow_proxy_e2e.run import Run
from mlflow_proxy_e2e.stash import RUN, TARGET
from mlflow_proxy_e2e.target import Target
from mlflow_proxy_e2e.traffic import TRAFFIC


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Hand over the target and the run."""
    node.workerinput["target"] = node.config.stash[TARGET].to_data()
    node.workerinput["run"] = node.config.stash[RUN].to_data()
    node.workerinput["given_up"] = TRAFFIC.given_up


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Accept what the controller hands over."""
    config = session.config
    config.stash[COVERAGE] = Coverage()
    if not (given := getattr(config, "workerinput", None)):
        return
    config.stash[TARGET] = Target.from_data(given["target"])
    config.stash[RUN] = Run(**given["run"]).joined()
    limit_traffic(config, given["workercount"])
    TRAFFIC.given_up.update(given["given_up"])


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand back what was called, and whether the limit of requests was reached."""
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput["coverage"] = config.stash[COVERAGE].to_data()
        config.workeroutput["exhausted"] = TRAFFIC.is_exhausted


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Accept what a worker hands back."""
    told = getattr(node, "workeroutput", {})
    node.config.stash[COVERAGE].add(told.get("coverage", {}))
    if told.get("exhausted"):
        TRAFFIC.exhaust()
