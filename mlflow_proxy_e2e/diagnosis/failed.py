"""Failed tests: which finding accounts for each, and the rest, grouped by how they fail."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mlflow_proxy_e2e.causes.catalogue import CATALOGUE
from mlflow_proxy_e2e.causes.cause import CauseId
from mlflow_proxy_e2e.diagnosis.verdict import Finding, Unexplained
from mlflow_proxy_e2e.facts.facts import EDGE_ROUTE, Facts, together
from mlflow_proxy_e2e.facts.trace import LogLine

DESCRIBED = ("sent", "came", "expected", "wrong", "again")  # the parts of a failed test's message, by the first word of their line
# What differs between messages of the same kind: ids, numbers, and quoted text.
VARYING = re.compile(r"[0-9a-f]{8,}|\d+|'[^']*'|\"[^\"]*\"")


@dataclass(frozen=True)
class FailedTest:
    """A test that has failed.

    Args:
        id: pytest's.
        route: the name of its route, or None.
        request_ids: of the requests that it sent last, oldest first.
        about: its subject.
        message: why it failed.
    """

    id: str
    route: str | None
    request_ids: tuple[str, ...]
    about: str = ""
    message: str = ""

    @property
    def kind(self) -> str:
        """Return what tests that fail in the same way have in common."""
        said = self.described
        parts = [said[name] for name in ("came", "expected", "wrong") if name in said] or [self.message.partition("\n")[0]]
        return " ".join(VARYING.sub("…", part)[:120] for part in parts)

    @property
    def described(self) -> Mapping[str, str]:
        """Return the parts of the message: what was sent, what came, what was expected. Empty if the message has another format."""
        words = "|".join(DESCRIBED)
        return dict(reversed(re.findall(rf"^({words}) +(.+)$", self.message, re.MULTILINE)))


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
    """Return the tests that no finding accounts for, grouped by how they fail, the largest group first."""
    alike: dict[str, list[FailedTest]] = {}
    for test in tests:
        alike.setdefault(test.kind, []).append(test)
    groups = sorted(alike.values(), key=len, reverse=True)
    return [Unexplained(tuple(test.id for test in each), _hops(facts, each), _example(facts, each[0])) for each in groups]


def _example(facts: Facts, test: FailedTest) -> tuple[str, ...]:
    said = test.described
    lines = [f"{name:<9} {said[name]}" for name in DESCRIBED if name in said] or test.message.splitlines()[:3]
    return (*lines, *map(str, _trace(facts, test)))


def _hops(facts: Facts, tests: Sequence[FailedTest]) -> tuple[str, ...]:
    """Return the hops where such tests fail. It is the edge only if the same test ran behind the edge and passed."""
    somewhere = together(*facts.behind(facts.target.routes), "auth", "mlflow")
    routes = {test.route for test in tests}
    if routes == {EDGE_ROUTE} and len(facts.target.routes) > 1:
        return ("edge",)
    return _last_word(facts, tests) if facts.has_logs else somewhere


def _last_word(facts: Facts, tests: Sequence[FailedTest]) -> tuple[str, ...]:
    """Return the hop that answered the last request of a failed test: MLflow, if all hops passed its answer on."""
    for line in _trace(facts, next((test for test in tests if test.request_ids), tests[0])):
        details = str(line.said.get("details", ""))
        if line.hop == "proxy" and details:
            if details.startswith("ext_authz"):
                return ("auth",)
            return ("proxy", "mlflow") if details == "via_upstream" else ("proxy",)
    return ("proxy", "mlflow")


def _trace(facts: Facts, test: FailedTest) -> list[LogLine]:
    return facts.lines(test.request_ids[-1]) if facts.has_logs and test.request_ids else []
