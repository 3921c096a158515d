"""Which promises a target keeps: the other side of a diagnosis, family by family of causes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlflow_proxy_e2e.causes.catalogue import FAMILIES
from mlflow_proxy_e2e.causes.cause import CauseId
from mlflow_proxy_e2e.causes.family import STAGES, Family
from mlflow_proxy_e2e.diagnosis.verdict import Finding, Promise, PromiseOutcome
from mlflow_proxy_e2e.facts.sign import Reading, Shows
from mlflow_proxy_e2e.severity import worst

# Why a cause is not ruled out.
OUT_OF_TIME = "out of time"
HIDDEN = "hidden by another finding"
NOT_TOLD = "cannot be observed from here"
PLACES = {cause.id: STAGES.index(family.stage) for family in FAMILIES for cause in family.causes}  # in the order of stages


def judge(readings: Mapping[CauseId, Reading], findings: Sequence[Finding]) -> tuple[Promise, ...]:
    """Return every promise, in the order of the catalogue."""
    return tuple(_judged(family, readings, findings) for family in FAMILIES)


def _judged(family: Family, readings: Mapping[CauseId, Reading], findings: Sequence[Finding]) -> Promise:
    own = {cause.id: readings[cause.id] for cause in family.causes}
    mine = [finding for finding in findings if _main_cause(finding) in own]
    broken = [finding for finding in mine if not finding.accepted]
    gaps = [_gaps(cause, reading, findings) for cause, reading in own.items()]
    ruled_out = gaps.count(())
    is_in_doubt = any(reading.shows is Shows.YES or reading.is_suspicion for reading in own.values())
    return Promise(
        stage=family.stage,
        text=family.promise,
        outcome="broken" if broken else "accepted" if mine else "not judged" if is_in_doubt else _kept(ruled_out, len(own)),
        severity=worst(finding.severity for finding in broken) if broken else None,
        found=tuple(cause for finding in broken or mine for cause in finding.causes),
        ruled_out=ruled_out,
        of=len(own),
        gaps=tuple(dict.fromkeys(gap for each in gaps for gap in each)),
    )


def _kept(ruled_out: int, of: int) -> PromiseOutcome:
    """Return what is known of a promise if none of its causes shows, and so many of them are ruled out."""
    return "kept" if ruled_out == of else "kept in part" if ruled_out else "not judged"


def _main_cause(finding: Finding) -> str | None:
    """Return the cause whose promise counts as broken. Causes that cannot be told apart may be of several families."""
    return max(finding.causes, key=lambda cause: PLACES[CauseId(cause)], default=None)


def _gaps(cause: CauseId, reading: Reading, findings: Sequence[Finding]) -> tuple[str, ...]:
    """Return why a cause is not ruled out."""
    if reading.shows is Shows.YES or reading.is_suspicion:
        return tuple(f"see {finding.name}" for finding in findings if cause in finding.causes) or (HIDDEN,)
    if not reading.was_asked:
        return (*reading.lacks, OUT_OF_TIME)
    return reading.lacks or ((NOT_TOLD,) if reading.shows is Shows.UNKNOWN else ())
