"""The suite's ability to fail and to say why: every fault makes exactly its tests fail, and the verdict names it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import pytest

from fixtures.faults.catalogue import FAULTS
from fixtures.faults.fault import Fault
from fixtures.faults.proxy import access, bodies, caching, carriers, headers, limits, paths, queries, refusals, secrecy
from mlflow_proxy_e2e.causes.catalogue import CATALOGUE
from tests.harness.conftest import Run, StartRun
from tests.harness.faults import forked
from tests.harness.faults.conftest import ACCOUNTED, FAILED, PATIENT, SCORE, RunOn, StartFront
from tests.harness.faults.front import WITH_A_SHARED_MLFLOW

# Families whose failed tests show the request, and how to send it again. Others are reported by a client, or from a log.
DESCRIBED = (access, bodies, caching, carriers, headers, limits, paths, queries, refusals, secrecy)
SHOWN_OTHERWISE = {
    *("carrier-ignored", "error-shape", "method-filter", "origin-403", "query-collapse", "workspace-dropped"),
    *("body-size-limit", "coding-headers-kept", "credential-leak", "key-echoed", "query-logged"),
}
MOST_CAUSES = 2  # that a verdict may leave open


@pytest.mark.parametrize("fault", sorted(fault.id for fault in FAULTS.values() if fault.shown_by))
def test_fault(
    fault: str, start_front: StartFront, run_on: RunOn, start_run: StartRun, record_property: Callable[[str, object], None]
) -> None:
    """A system with this fault fails the tests that the fault concerns, and no others; the verdict says what is wrong and where."""
    known = FAULTS[fault]
    record_property(SCORE, "faults")

    if fault in WITH_A_SHARED_MLFLOW:
        front = start_front(known)
        assert front.target
        # For a problem behind the edge, one route is enough.
        route = ("--route", "internal") if known.hop in ("proxy", "auth") else ()
        run = run_on(front.target, *known.shown_by, *route, **front.client)
    else:
        run = start_run(*known.shown_by, "--fault", fault, f"--diagnosis-time={PATIENT}", begin=forked.Forked)

    assert run.wait() == pytest.ExitCode.TESTS_FAILED, run.output
    _assert_caught(run, CATALOGUE[known.cause].reddens)
    for part in ("sent      ", "came      ", "expected  ", "again     curl ") if _is_described(known) else ():
        assert part in run.output
    record_property(SCORE, "caught")
    _assert_named(run, known, record_property)


def _assert_named(run: Run, fault: Fault, record_property: Callable[[str, object], None]) -> None:
    """Assert that the verdict names the fault and nothing else, at its hop, and that this finding accounts for the failed tests."""
    findings, failed = run.verdict["findings"], [name for name, outcome in run.outcomes().items() if outcome != "passed"]
    mine = [finding for finding in findings if fault.id in finding["causes"] and len(finding["causes"]) <= MOST_CAUSES]
    accounted = [test for finding in mine for test in finding["tests"]]
    record_property(FAILED, len(failed))
    record_property(ACCOUNTED, len(accounted))
    if mine:
        record_property(SCORE, "named")
    if any(fault.hop in finding["hops"] for finding in mine):
        record_property(SCORE, "hop right")
    if mine == findings:
        record_property(SCORE, "nothing else named")
    assert mine == findings, run.output
    assert fault.hop in mine[0]["hops"], run.output
    assert len(accounted) == len(failed), run.output


def _is_described(fault: Fault) -> bool:
    return fault.id not in SHOWN_OTHERWISE and any(fault in family.FAULTS for family in DESCRIBED)


def _assert_caught(run: Run, reddens: Iterable[str]) -> None:
    outcomes = run.outcomes_by_id()
    failed = {id_ for id_, outcome in outcomes.items() if outcome != "passed"}
    assert failed == {id_ for id_ in outcomes if any(re.search(pattern, id_) for pattern in reddens)}, run.output
    assert failed, run.output
