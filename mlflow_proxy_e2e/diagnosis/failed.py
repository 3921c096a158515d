"""Tests that have failed: which finding accounts for each, and how those fail alike that none accounts for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mlflow_proxy_e2e.causes.catalogue import CATALOGUE
from mlflow_proxy_e2e.causes.cause import CauseId
from mlflow_proxy_e2e.diagnosis.verdict import Finding, Unexplained
from mlflow_proxy_e2e.facts.facts import EDGE_ROUTE, Facts, together
from mlflow_proxy_e2e.facts.trace import LogLine
from mlflow_proxy_e2e.severity import UNKNOWN, Severity, rank, worst

DESCRIBED = ("sent", "came", "expected", "wrong", "again")  # the parts of a failed test's message, each the first word of a line
# What differs between messages of one kind: ids, numbers, and what is quoted.
VARYING = re.compile(r"[0-9a-f]{8,}|\d+|'[^']*'|\"[^\"]*\"")


@dataclass(frozen=True)
class FailedTest:
    """A test that has failed.

    Args:
        id: pytest's.
        route: the name of its route, if it has one.
        request_ids: of the requests that it sent last, oldest first.
        about: its subject.
        message: why it failed.
        severity: how bad that is, as long as nothing more is known.
    """

    id: str
    route: str | None
    request_ids: tuple[str, ...]
    about: str = ""
    message: str = ""
    severity: Severity = UNKNOWN

    @property
    def kind(self) -> str:
        """Return what tests have in common that fail alike."""
        said = self.described
        parts = [said[name] for name in ("came", "expected", "wrong") if name in said] or [self.message.partition("\n")[0]]
        return " ".join(VARYING.sub("…", part)[:120] for part in parts)

    @property
    def described(self) -> Mapping[str, str]:
        """Return the parts of the message: what was sent, what came, what was expected. Empty for one in another form."""
        words = "|".join(DESCRIBED)
        return dict(reversed(re.findall(rf"^({words}) +(.+)$", self.message, re.MULTILINE)))


def account(findings: Sequence[Finding], routes: Mapping[Finding, frozenset[str]], tests: Sequence[FailedTest]) -> list[Finding]:
    """Return the findings with the tests that each accounts for: the first one that does, in this order.

    Args:
        findings: what was found, worst first.
        routes: the names of the routes that each concerns. Empty: all.
        tests: what has failed.
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
    """Return tests that nothing accounts for, those together that fail alike: the worst group first, and then the largest."""
    alike: dict[str, list[FailedTest]] = {}
    for test in tests:
        alike.setdefault(test.kind, []).append(test)
    groups = sorted(alike.values(), key=lambda tests: (rank(_worst(tests)), -len(tests)))
    return [
        Unexplained(tuple(test.id for test in tests), _hops(facts, tests), _example(facts, tests[0]), _worst(tests))
        for tests in groups
    ]


def _worst(tests: Iterable[FailedTest]) -> Severity:
    return worst(test.severity for test in tests)


def _example(facts: Facts, test: FailedTest) -> tuple[str, ...]:
    said = test.described
    lines = [f"{name:<9} {said[name]}" for name in DESCRIBED if name in said] or test.message.splitlines()[:3]
    return (*lines, *map(str, _trace(facts, test)))


def _hops(facts: Facts, tests: Sequence[FailedTest]) -> tuple[str, ...]:
    """Return where tests fail that nothing accounts for: at the edge only if the same test was made behind it, and did not fail."""
    somewhere = together(*facts.behind(facts.target.routes), "auth", "mlflow")
    routes = {test.route for test in tests}
    if routes == {EDGE_ROUTE} and len(facts.target.routes) > 1:
        return ("edge",)
    return _last_word(facts, tests) if facts.has_logs else somewhere


def _last_word(facts: Facts, tests: Sequence[FailedTest]) -> tuple[str, ...]:
    """Return who had the last word on the last request of a failed test: MLflow, if all hops passed its answer on."""
    for line in _trace(facts, next((test for test in tests if test.request_ids), tests[0])):
        details = str(line.said.get("details", ""))
        if line.hop == "proxy" and details:
            if details.startswith("ext_authz"):
                return ("auth",)
            return ("proxy", "mlflow") if details == "via_upstream" else ("proxy",)
    return ("proxy", "mlflow")


def _trace(facts: Facts, test: FailedTest) -> list[LogLine]:
    return facts.lines(test.request_ids[-1]) if facts.has_logs and test.request_ids else []
