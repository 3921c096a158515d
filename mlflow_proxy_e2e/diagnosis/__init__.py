"""What is wrong with a target, or why a run has failed: all findings, worst first, with evidence and remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.causes.catalogue import CATALOGUE, UNNAMED
from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.diagnosis.failed import FailedTest, account, group
from mlflow_proxy_e2e.diagnosis.promises import judge
from mlflow_proxy_e2e.diagnosis.verdict import Finding, Verdict
from mlflow_proxy_e2e.facts.facts import Facts, together
from mlflow_proxy_e2e.facts.recording import Recording
from mlflow_proxy_e2e.facts.sign import Reading, Shows
from mlflow_proxy_e2e.facts.slow_calls import slower_than_mlflow
from mlflow_proxy_e2e.redaction import without
from mlflow_proxy_e2e.severity import rank, worst
from mlflow_proxy_e2e.target import Target

AT_ONCE = 16  # signs read concurrently: most of them wait for replies


@dataclass(frozen=True)
class Found:
    """The readings of causes that cannot be told apart: one of them applies."""

    causes: tuple[Cause, ...]
    reading: Reading
    what: str = ""  # what is wrong, if no cause has a name for it


def diagnose(target: Target, failed: Sequence[FailedTest] = (), *, seconds: float = timeouts.DIAGNOSIS) -> Verdict:
    """Diagnose a target.

    Args:
        target: the target to diagnose.
        failed: the failed tests, if any.
        seconds: for all questions together.
    """
    return conclude(observed(target, failed, seconds=seconds), failed)


def observed(
    target: Target,
    failed: Sequence[FailedTest] = (),
    *,
    may_create: bool = True,
    seconds: float = timeouts.DIAGNOSIS,
    progress: Callable[[float], None] = lambda _: None,
) -> Facts:
    """Return everything that the signs of all causes observe of a target. What was created for it is removed.

    Args:
        target: the target to observe.
        failed: the failed tests, if any.
        may_create: whether an experiment may be created, with an identity that is allowed to write.
        seconds: for all questions together.
        progress: called now and then with the part that is done, from 0 to 1, by any thread.
    """
    routes = {test.route for test in failed}
    suspected = routes.pop() if len(routes) == 1 else None
    facts = Facts(target, suspected, (test.about for test in failed), may_create=may_create, seconds=seconds)
    try:
        read(facts, progress)
        conclude(facts, failed)
    finally:
        facts.close()
    return facts


def recorded(recording: Recording) -> Verdict:
    """Return the verdict on a recording, without a network."""
    return conclude(Facts.recorded(recording))


def read(facts: Facts, progress: Callable[[float], None] = lambda _: None) -> Mapping[CauseId, Reading]:
    """Return the reading of each cause's sign. The slowest signs are read first, then the worst causes."""
    done: list[CauseId] = []
    causes = sorted(CATALOGUE.values(), key=lambda cause: (-cause.shows.seconds, rank(cause.severity)))

    def reading(cause: Cause) -> Reading:
        with facts.within(cause.id) as lacks:
            read = cause.shows(facts)
        done.append(cause.id)
        progress(len(done) / len(causes))
        return replace(read, lacks=tuple(sorted(lacks)))

    with facts.keeping(timeouts.UNNAMED):
        slower_than_mlflow(facts)  # before all others, whose many calls at once would be slow by themselves
        return dict(zip((cause.id for cause in causes), facts.at_once(reading, causes, AT_ONCE), strict=True))


def conclude(facts: Facts, failed: Sequence[FailedTest] = ()) -> Verdict:
    """Return the verdict on facts, without the consequences of other findings."""
    readings = read(facts)
    found = _without_consequences(_told_apart(readings)) or _unnamed(facts)
    findings, routes = _ranked(facts, found)
    accounted = account(findings, routes, failed)
    explained = {test for finding in accounted for test in finding.tests}
    left = group(facts, (test for test in failed if test.id not in explained))
    not_asked = tuple(cause for cause, reading in readings.items() if not reading.was_asked)
    return Verdict(tuple(accounted), tuple(left), not_asked, judge(readings, findings))


def _told_apart(readings: Mapping[CauseId, Reading]) -> list[Found]:
    """Return the readings that say YES, each by itself, and the suspicions, grouped by the observation that they share."""
    shown = [Found((CATALOGUE[cause],), reading) for cause, reading in readings.items() if reading.shows is Shows.YES]
    known = {str(found.reading.evidence[0]) for found in shown if found.reading.evidence}
    suspected: dict[str, list[CauseId]] = {}
    for cause, reading in readings.items():
        if reading.is_suspicion and str(reading.evidence[0]) not in known:
            suspected.setdefault(str(reading.evidence[0]), []).append(cause)
    return [*shown, *(_one_of(causes, readings) for causes in suspected.values())]


def _one_of(causes: Sequence[CauseId], readings: Mapping[CauseId, Reading]) -> Found:
    each = [readings[cause] for cause in causes]
    evidence = dict.fromkeys(line for reading in each for line in reading.evidence)
    hops = together(*(hop for cause, reading in zip(causes, each, strict=True) for hop in reading.hops or (CATALOGUE[cause].hop,)))
    routes = frozenset(route for reading in each for route in reading.routes)
    return Found(tuple(CATALOGUE[cause] for cause in causes), Reading(Shows.UNKNOWN, tuple(evidence), hops, routes))


def _without_consequences(found: Sequence[Found]) -> list[Found]:
    """Leave out what another finding explains. A finding with several causes explains only what all of them explain."""
    explained = {consequence for each in found for consequence in _explained(each)}
    return [each for each in found if not explained & {cause.id for cause in each.causes}]


def _explained(found: Found) -> set[CauseId]:
    return set.intersection(*(set(cause.explains) for cause in found.causes))


def _unnamed(facts: Facts) -> list[Found]:
    """Return the first problem that shows and that no cause has a name for, or nothing."""
    for number, (what, sign) in enumerate(UNNAMED):
        with facts.within(f"{what} {number}"):
            reading = sign(facts)
        if reading.shows is Shows.YES:
            return [Found((), reading, what)]
    return []


def _ranked(facts: Facts, found: Iterable[Found]) -> tuple[list[Finding], dict[Finding, frozenset[str]]]:
    findings = {_finding(facts, each): each.reading.routes for each in found}
    return sorted(findings, key=_rank), findings


def _rank(finding: Finding) -> tuple[bool, int, bool]:
    return bool(finding.accepted), rank(finding.severity), not finding.causes


def _finding(facts: Facts, found: Found) -> Finding:
    return Finding(
        hops=found.reading.hops or together(*(cause.hop for cause in found.causes)),
        causes=tuple(cause.id for cause in found.causes),
        severity=worst(cause.severity for cause in found.causes),
        what=tuple(cause.what for cause in found.causes) or (found.what,),
        remedy=tuple(cause.remedy for cause in found.causes),
        evidence=tuple(without(facts.secrets, str(line)) for line in found.reading.evidence),
        accepted=_accepted(facts.target, found.causes),
    )


def _accepted(target: Target, causes: Sequence[Cause]) -> str:
    """Return why causes that cannot be told apart are accepted: nothing unless all of them are."""
    reasons = {each.what: each.reason for each in target.accepted}
    found = [reasons.get(cause.id, "") for cause in causes]
    return "; ".join(dict.fromkeys(found)) if all(found) else ""
