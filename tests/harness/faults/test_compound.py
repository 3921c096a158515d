"""Systems with several problems: each one is found, or is a consequence of one that is, and nothing else is found."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from fixtures.faults.auth import decisions, keys
from fixtures.faults.catalogue import FAULTS
from fixtures.faults.fault import Fault
from fixtures.faults.proxy import access, bodies, caching, carriers, duplicates, headers, limits, queries, refusals, secrecy
from fixtures.faults.system import System
from mlflow_proxy_e2e.causes.catalogue import CATALOGUE
from mlflow_proxy_e2e.causes.cause import CauseId
from mlflow_proxy_e2e.diagnosis import diagnose
from tests.harness.faults.conftest import PATIENT, SCORE, StartFront

SEED, PAIRS, TRIPLES = 14, 40, 10
# Families with which good keys still get through. The auth service runs one program, so it can have one fault at a time.
FAMILIES = (access, bodies, caching, carriers, duplicates, headers, limits, queries, refusals, secrecy, decisions, keys)
STOPS_GOOD_KEYS = ("query-dropped", "wrong-service-id")
LOSES_ANSWERS = ("answer-body-lost",)  # of good keys, too
HIDES_OTHERS = ("response-cached",)  # it answers the questions of a diagnosis with what other questions got
CANDIDATES = [fault for family in FAMILIES for fault in family.FAULTS if fault.id not in (*STOPS_GOOD_KEYS, *HIDES_OTHERS)]


def _compounds() -> list[tuple[str, ...]]:
    return [*_of_size(2, PAIRS), *_of_size(3, TRIPLES)]


def _of_size(size: int, number: int) -> list[tuple[str, ...]]:
    choose = random.Random(SEED + size)
    found: list[tuple[str, ...]] = []
    while len(found) < number:
        chosen = choose.sample(CANDIDATES, size)
        if sum(fault.hop == "auth" for fault in chosen) < 2 and not {fault.id for fault in chosen} & {*LOSES_ANSWERS}:
            found.append(tuple(sorted(fault.id for fault in chosen)))
    return found


def _injected(compound: Sequence[str]) -> Fault:
    def inject(system: System) -> None:
        for fault in compound:
            FAULTS[fault].inject(system)

    return Fault(cause=CauseId(compound[0]), inject=inject)


@pytest.mark.parametrize("compound", _compounds(), ids="+".join)
def test_compound(compound: tuple[str, ...], start_front: StartFront, record_property: Callable[[str, object], None]) -> None:
    """The verdict has everything that is wrong, or a finding that explains it, and nothing else."""
    record_property(SCORE, "compounds")
    front = start_front(_injected(compound))
    assert front.target

    findings = diagnose(front.target, seconds=PATIENT).findings

    named = {cause for finding in findings for cause in finding.causes}
    explained = {consequence for fault in compound for consequence in CATALOGUE[CauseId(fault)].explains}
    others = [finding for finding in findings if not set(finding.causes) & set(compound)]
    assert set(compound) <= named | explained, "\n\n".join(map(str, findings))
    assert not others, "\n\n".join(map(str, others))
    record_property(SCORE, "compounds named")
