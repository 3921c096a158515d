"""Why a run has failed: which hop is at fault, on what evidence, and what mends it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice

from mlflow_proxy_e2e.causes.catalogue import CATALOGUE
from mlflow_proxy_e2e.causes.cause import CauseId
from mlflow_proxy_e2e.diagnosis.asking import NoTimeLeftError
from mlflow_proxy_e2e.diagnosis.client import OWN_CLIENT, client
from mlflow_proxy_e2e.diagnosis.examination import Examination, Finding
from mlflow_proxy_e2e.diagnosis.forwarding import forwarding
from mlflow_proxy_e2e.diagnosis.gate import gate
from mlflow_proxy_e2e.diagnosis.holes import holes
from mlflow_proxy_e2e.diagnosis.reach import reach
from mlflow_proxy_e2e.diagnosis.unknown import Failure, by_failures, differences, what_failed
from mlflow_proxy_e2e.diagnosis.verdict import OR, Verdict
from mlflow_proxy_e2e.redaction import without
from mlflow_proxy_e2e.target import Target


def diagnose(target: Target, failures: Sequence[Failure] = ()) -> list[Verdict]:
    """Ask a target what is wrong with it. Takes up to 10 s.

    Args:
        target: what is asked.
        failures: the tests that have failed, if any have.

    Returns what was found: what explains most comes first. Nothing, if nothing is wrong; if tests have failed, at least where.
    """
    routes = {failure.route for failure in failures}
    suspected = routes.pop() if len(routes) == 1 else None
    examination = Examination(target, suspected, (failure.about for failure in failures))
    found = _find(examination)
    if failures and not found:
        found = [by_failures(examination, failures)]
    if found and not found[0].causes:
        found[0] = replace(found[0], evidence=(*found[0].evidence, *what_failed(examination, failures)))
    explained = {explained for finding in found for id_ in finding.causes for explained in CATALOGUE[CauseId(id_)].explains}
    left = (finding for finding in found if not explained & set(finding.causes))
    return [_verdict(target, finding) for finding in _distinct(left)]


def _find(x: Examination) -> list[Finding]:
    """Go on until a part has found something that has a name, or the time is over. What has a name comes first."""
    found: list[Finding] = []
    with suppress(NoTimeLeftError):
        for finding in _parts(x, found):
            found.append(finding)
    return sorted(found, key=lambda finding: not finding.causes)


def _parts(x: Examination, found: Sequence[Finding]) -> Iterator[Finding]:
    """Ask part by part, as long as what has been ``found`` does not make it vain."""
    yield from reach(x)
    if found:
        return
    for part in (gate, holes, forwarding):
        yield from part(x)
        if any(finding.causes for finding in found):
            return
    if not found and x.about <= {OWN_CLIENT}:  # all other tests keep the environment out
        yield from client(x)
    if not found:
        yield from islice(differences(x), 1)


def _distinct(findings: Iterable[Finding]) -> Iterator[Finding]:
    seen: set[tuple[tuple[str, ...], str]] = set()
    for finding in findings:
        if (known := (finding.causes, finding.what if not finding.causes else "")) not in seen:
            seen.add(known)
            yield finding


def _verdict(target: Target, finding: Finding) -> Verdict:
    known = [CATALOGUE[CauseId(id_)] for id_ in finding.causes]
    return Verdict(
        hops=finding.hops,
        causes=finding.causes,
        what=OR.join(cause.what for cause in known) or finding.what,
        evidence=tuple(without(target.secrets, str(evidence)) for evidence in finding.evidence),
        remedy=OR.join(cause.remedy for cause in known),
    )
