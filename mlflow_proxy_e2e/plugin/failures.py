"""The failed tests, and the diagnosis of the target."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import pytest

from mlflow_proxy_e2e.exchanges import REQUESTS
from mlflow_proxy_e2e.redaction import without
from mlflow_proxy_e2e.report.recorder import CAPABILITY, ROUTE, failure
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

        failed = list(_failed(reporter, [route.name for route in target.routes]))
        return diagnose(target, failed) if failed else None
    except Exception as error:  # a bug in the diagnosis must not suppress the run's report
        said = without(target.secrets, repr(error))
        reporter.write_line(f"The diagnosis itself has failed, which says nothing about the target: {said}")
        return None


def _failed(reporter: pytest.TerminalReporter, routes: Collection[str]) -> Iterator[FailedTest]:
    from mlflow_proxy_e2e.diagnosis.failed import FailedTest

    passed = {report.nodeid for report in reporter.stats.get("passed", ())}
    for outcome in ("failed", "error"):
        for report in reporter.stats.get(outcome, ()):
            if isinstance(report, pytest.TestReport):
                said = {name: str(value) for name, value in report.user_properties}
                elsewhere = {other: same_test_on(report.nodeid, said.get(ROUTE, ""), other) for other in routes}
                yield FailedTest(
                    report.nodeid,
                    route=said[ROUTE] if said.get(ROUTE) in routes else None,
                    request_ids=tuple(str(value) for name, value in report.user_properties if name == REQUESTS),
                    about=said.get(CAPABILITY, ""),
                    message=failure(report),
                    passed_on=frozenset(other for other, test in elsewhere.items() if test in passed),
                )


def same_test_on(test: str, route: str, other: str) -> str:
    """Return the id of the same test on another route."""
    name, bracket, parameters = test.partition("[")
    return name + bracket + re.sub(rf"(?<![^-]){re.escape(route)}(?![^\]-])", other, parameters, count=1)
