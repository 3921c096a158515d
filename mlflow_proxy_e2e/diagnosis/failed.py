"""Failed tests: which finding accounts for each, and the rest, grouped by how they fail."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mlflow_proxy_e2e.causes.catalogue import CATALOGUE
from mlflow_proxy_e2e.causes.cause import CauseId
from mlflow_proxy_e2e.diagnosis.verdict import Finding, Unexplained
from mlflow_proxy_e2e.facts.facts import EDGE_ROUTE, PROXY_ROUTE, Facts, together
from mlflow_proxy_e2e.facts.trace import LogLine
from mlflow_proxy_e2e.severity import UNKNOWN, Severity, rank, worst
from mlflow_proxy_e2e.wire import DESCRIBED, described, kind_of


@dataclass(frozen=True)
class FailedTest:
    """A test that has failed.

    Args:
        id: pytest's.
        route: the name of its route, or None.
        request_ids: of the requests that it sent last, oldest first.
        about: its subject.
        message: why it failed.
        severity: that of its subject, which a finding may replace.
        passed_on: the names of other routes on which the same test passed.
    """

    id: str
    route: str | None
    request_ids: tuple[str, ...]
    about: str = ""
    message: str = ""
    severity: Severity = UNKNOWN
    passed_on: frozenset[str] = frozenset()


def account(findings: Sequence[Finding], routes: Mapping[Finding, frozenset[str]], tests: Sequence[FailedTest]) -> list[Finding]:
    """Return the findings, each with the failed tests that it accounts for. A test goes to the first finding that fits.

    Args:
        findings: what was found, worst first.
        routes: the names of the routes that each finding affects. Empty: all.
        tests: the failed tests.
    """
    taken: dict[Finding, list[str]] = {finding: [] for finding in findings}
    for test in tests:
        if owner := next((finding for finding in findings if _reddens(finding, routes[finding], test)), None):
            taken[owner].append(test.id)
    return [replace(finding, tests=tuple(ids)) for finding, ids in taken.items()]


def _reddens(finding: Finding, routes: frozenset[str], test: FailedTest) -> bool:
    if routes and test.route and test.route not in routes:
        return False
    patterns = (pattern for cause in finding.causes for pattern in CATALOGUE[CauseId(cause)].reddens)
    return any(re.search(pattern, test.id) for pattern in patterns)


def group(facts: Facts, tests: Iterable[FailedTest]) -> list[Unexplained]:
    """Return the tests that no finding accounts for, grouped by how they fail: the worst group first, then the largest."""
    alike: dict[str, list[FailedTest]] = {}
    for test in tests:
        alike.setdefault(kind_of(test.message), []).append(test)
    groups = sorted(alike.values(), key=lambda tests: (rank(_worst(tests)), -len(tests)))
    return [
        Unexplained(tuple(test.id for test in tests), _hops(facts, tests), _example(facts, tests[0]), _worst(tests))
        for tests in groups
    ]


def _worst(tests: Iterable[FailedTest]) -> Severity:
    return worst(test.severity for test in tests)


def _example(facts: Facts, test: FailedTest) -> tuple[str, ...]:
    said = described(test.message)
    lines = [f"{name:<9} {said[name]}" for name in DESCRIBED if name in said] or test.message.splitlines()[:3]
    return (*lines, *map(str, _trace(facts, test)))


def _hops(facts: Facts, tests: Sequence[FailedTest]) -> tuple[str, ...]:
    """Return the hops where such tests fail. It is the edge only if the same tests ran behind the edge and passed."""
    if all(test.route == EDGE_ROUTE and PROXY_ROUTE in test.passed_on for test in tests):
        return ("edge",)
    if facts.has_logs:
        return _last_word(facts, tests)
    is_behind_edge = any(test.route == PROXY_ROUTE for test in tests)
    return together(*(() if is_behind_edge else ("edge",)), "proxy", "auth", "mlflow")


def _last_word(facts: Facts, tests: Sequence[FailedTest]) -> tuple[str, ...]:
    """Return the hop that answered the last request of a failed test: MLflow, if all hops passed its answer on."""
    lines = _trace(facts, next((test for test in tests if test.request_ids), tests[0]))
    if {line.hop for line in lines} == {"edge"}:
        return ("edge",)
    for line in lines:
        details = str(line.said.get("details", ""))
        if line.hop == "proxy" and details:
            if details.startswith("ext_authz"):
                return ("auth",)
            return ("proxy", "mlflow") if details == "via_upstream" else ("proxy",)
    return ("proxy", "mlflow")


def _trace(facts: Facts, test: FailedTest) -> list[LogLine]:
    return facts.lines(test.request_ids[-1]) if facts.has_logs and test.request_ids else []
