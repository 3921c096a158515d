"""The failed tests, and the diagnosis of the target."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from mlflow_proxy_e2e.exchanges import REQUESTS
from mlflow_proxy_e2e.redaction import without
from mlflow_proxy_e2e.report.recorder import CAPABILITY, ROUTE, reason
from mlflow_proxy_e2e.target import Target

if TYPE_CHECKING:
    from mlflow_proxy_e2e.diagnosis.failed import FailedTest
    from mlflow_proxy_e2e.diagnosis.verdict import Verdict


def diagnosed(reporter: pytest.TerminalReporter, target: Target) -> Verdict | None:
    """Diagnose a target if tests have failed. Takes up to 10 s."""
    if not any(reporter.stats.get(outcome) for outcome in ("failed", "error")):
        return None
    try:
        from mlflow_proxy_e2e.diagnosis import diagnose  # slow to import, and a run without failures does not need it

        failed = list(_failed(reporter, {route.name for route in target.routes}))
        return diagnose(target, failed) if failed else None
    except Exception as error:  # a bug in the diagnosis must not suppress the run's report
        said = without(target.secrets, repr(error))
        reporter.write_line(f"The diagnosis itself has failed, which says nothing about the target: {said}")
        return None


def _failed(reporter: pytest.TerminalReporter, routes: set[str]) -> Iterator[FailedTest]:
    from mlflow_proxy_e2e.diagnosis.failed import FailedTest

    for outcome in ("failed", "error"):
        for report in reporter.stats.get(outcome, ()):
            if isinstance(report, pytest.TestReport):
                said = {name: str(value) for name, value in report.user_properties}
                ids = tuple(str(value) for name, value in report.user_properties if name == REQUESTS)
                route = said.get(ROUTE)
                yield FailedTest(report.nodeid, route if route in routes else None, ids, said.get(CAPABILITY, ""), reason(report))
