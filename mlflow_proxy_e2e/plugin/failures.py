"""The tests that have failed, and what the target says to why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from mlflow_proxy_e2e.exchanges import REQUESTS
from mlflow_proxy_e2e.redaction import without
from mlflow_proxy_e2e.report.recorder import CAPABILITY, ROUTE
from mlflow_proxy_e2e.target import Target

if TYPE_CHECKING:
    from mlflow_proxy_e2e.diagnosis.unknown import Failure
    from mlflow_proxy_e2e.diagnosis.verdict import Verdict


def diagnosed(reporter: pytest.TerminalReporter, target: Target) -> list[Verdict]:
    """Ask a target what is wrong with it, if tests have failed. Takes up to 10 s."""
    try:
        from mlflow_proxy_e2e.diagnosis import diagnose  # takes its time, and a run without failures needs none of it

        failures = list(_failures(reporter, {route.name for route in target.routes}))
        return diagnose(target, failures) if failures else []
    except Exception as error:  # an error of ours must not take the report of the run with it
        said = without(target.secrets, repr(error))
        reporter.write_line(f"The diagnosis has failed, by a fault of its own: {said}")
        return []


def _failures(reporter: pytest.TerminalReporter, routes: set[str]) -> Iterator[Failure]:
    from mlflow_proxy_e2e.diagnosis.unknown import Failure

    for outcome in ("failed", "error"):
        for report in reporter.stats.get(outcome, ()):
            if isinstance(report, pytest.TestReport):
                said = {name: str(value) for name, value in report.user_properties}
                ids = tuple(str(value) for name, value in report.user_properties if name == REQUESTS)
                route = said.get(ROUTE)
                yield Failure(report.nodeid, route if route in routes else None, ids, said.get(CAPABILITY, ""))
