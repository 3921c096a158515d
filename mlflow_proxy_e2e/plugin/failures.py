"""The failed tests: the diagnosis of the target, and which failures are accepted."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import pytest

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.acceptance import accepted_tests, unmatched
from mlflow_proxy_e2e.exchanges import REQUESTS
from mlflow_proxy_e2e.redaction import without
from mlflow_proxy_e2e.report.recorder import CAPABILITY, ROUTE, failure, severity_of
from mlflow_proxy_e2e.target import Target

if TYPE_CHECKING:
    from mlflow_proxy_e2e.diagnosis.failed import FailedTest
    from mlflow_proxy_e2e.diagnosis.verdict import Verdict

BAD = ("failed", "error")  # the outcomes of tests, as pytest's terminal reporter counts them


class Judged(NamedTuple):
    """What to report about the failed tests.

    Args:
        verdict: what is wrong with the target, if it was diagnosed.
        accepted: the tests whose failure is accepted, with the reasons.
        unmatched: a line for each entry of the profile's [accept] that matches nothing.
    """

    verdict: Verdict | None
    accepted: Mapping[str, str]
    unmatched: tuple[str, ...]


def judge(reporter: pytest.TerminalReporter, target: Target, *, is_full: bool, seconds: float = timeouts.DIAGNOSIS) -> Judged:
    """Diagnose the target if tests have failed, and sort out which failures its profile accepts.

    Args:
        reporter: knows the failed tests.
        target: is diagnosed even if no test failed in a full run, if its profile accepts causes: are they still there?
        is_full: whether all tests were run, so that an entry which matches none of the failures is out of date.
        seconds: for the diagnosis.
    """
    failed = {report.nodeid: report for report in _bad(reporter)}
    known = accepted_tests(target, failed)
    left = [report for name, report in failed.items() if name not in known]
    asks_for_causes = is_full and not all(entry.is_of_tests for entry in target.accepted)
    verdict = _diagnosed(reporter, target, left, seconds) if left or asks_for_causes else None
    accepted = {**known, **(verdict.accepted if verdict else {})}
    told: tuple[str, ...] = ()
    # Other problems may hide accepted ones, and so does a diagnosis that could not be made.
    if is_full and failed.keys() == accepted.keys() and (verdict is not None or not asks_for_causes):
        told = tuple(unmatched(target, _seen(verdict), failed)) if not verdict or not verdict.wrong else ()
    return Judged(verdict, accepted, told)


def accept(reporter: pytest.TerminalReporter, accepted: Mapping[str, str]) -> None:
    """Have pytest count the failures of these tests as expected."""
    for outcome in BAD:
        reports = reporter.stats.get(outcome, [])
        mine = [report for report in reports if getattr(report, "nodeid", None) in accepted]
        for report in mine:
            reports.remove(report)
            report.outcome, report.wasxfail = "skipped", f"accepted: {accepted[report.nodeid]}"
            reporter.stats.setdefault("xfailed", []).append(report)
        if not reports:
            reporter.stats.pop(outcome, None)


def _diagnosed(
    reporter: pytest.TerminalReporter, target: Target, failed: Iterable[pytest.TestReport], seconds: float
) -> Verdict | None:
    try:
        from mlflow_proxy_e2e.diagnosis import diagnose  # slow to import, and a run without failures does not need it

        routes = [route.name for route in target.routes]
        passed = {report.nodeid for report in reporter.stats.get("passed", ())}
        return diagnose(target, [_failed(report, routes, passed) for report in failed], seconds=seconds)
    except Exception as error:  # a bug in the diagnosis must not suppress the run's report
        said = without(target.secrets, repr(error))
        reporter.write_line(f"The diagnosis itself has failed, which says nothing about the target: {said}")
        return None


def _seen(verdict: Verdict | None) -> set[str]:
    """Return the causes that were found, or that there was no time to ask about."""
    if verdict is None:
        return set()
    return {*verdict.not_asked, *(cause for finding in verdict.findings for cause in finding.causes)}


def _bad(reporter: pytest.TerminalReporter) -> Iterator[pytest.TestReport]:
    for outcome in BAD:
        yield from (report for report in reporter.stats.get(outcome, ()) if isinstance(report, pytest.TestReport))


def _failed(report: pytest.TestReport, routes: Collection[str], passed: Collection[str]) -> FailedTest:
    from mlflow_proxy_e2e.diagnosis.failed import FailedTest

    said = {name: str(value) for name, value in report.user_properties}
    elsewhere = {other: same_test_on(report.nodeid, said.get(ROUTE, ""), other) for other in routes}
    return FailedTest(
        report.nodeid,
        route=said[ROUTE] if said.get(ROUTE) in routes else None,
        request_ids=tuple(str(value) for name, value in report.user_properties if name == REQUESTS),
        about=said.get(CAPABILITY, ""),
        message=failure(report),
        severity=severity_of(report),
        passed_on=frozenset(other for other, test in elsewhere.items() if test in passed),
    )


def same_test_on(test: str, route: str, other: str) -> str:
    """Return the id of the same test on another route."""
    name, bracket, parameters = test.partition("[")
    return name + bracket + re.sub(rf"(?<![^-]){re.escape(route)}(?![^\]-])", other, parameters, count=1)
