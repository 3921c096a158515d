"""The suite's ability to fail, and to say why: every fault turns exactly its tests red, and the verdict names it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from fixtures.faults import fidelity, gate
from fixtures.faults.catalogue import FAULTS
from fixtures.faults.fault import Fault
from tests.harness.conftest import Run, StartRun
from tests.harness.detections import DETECTED_BY, WITH_A_SHARED_MLFLOW
from tests.harness.faults import forked
from tests.harness.faults.conftest import ACCOUNTED, FAILED, SCORE, RunOn, StartFront

# Of what these turn red the message has the request, and how to send it again. Others a client reports, or a log.
SHOWN_OTHERWISE = {"credential-leak", "key-echoed", "origin-403", "body-size-limit", "query-logged"}
DESCRIBED = {fault.id for fault in (*gate.FAULTS, *fidelity.FAULTS)} - SHOWN_OTHERWISE
MOST_CAUSES = 2  # that a verdict may leave open


@pytest.mark.parametrize("fault", sorted(DETECTED_BY))
def test_fault(
    fault: str, start_front: StartFront, run_on: RunOn, start_run: StartRun, record_property: Callable[[str, object], None]
) -> None:
    """A system with this fault fails the tests that the fault concerns, and no others; the verdict says what and where."""
    tests, red = DETECTED_BY[fault]
    known = FAULTS[fault]
    record_property(SCORE, "faults")

    if fault in WITH_A_SHARED_MLFLOW:
        front = start_front(known)
        assert front.target
        # Where what is wrong lies behind the edge, one route will do.
        run = run_on(front.target, *tests, *(("--route", "internal") if known.hop in ("proxy", "auth") else ()), **front.client)
    else:
        run = start_run(*tests, "--fault", fault, begin=forked.Forked)

    assert run.wait() == pytest.ExitCode.TESTS_FAILED, run.output
    _assert_caught(run, red)
    for part in ("sent      ", "came      ", "expected  ", "again     curl ") if fault in DESCRIBED else ():
        assert part in run.output
    record_property(SCORE, "caught")
    _assert_named(run, known, record_property)


def _assert_named(run: Run, fault: Fault, record_property: Callable[[str, object], None]) -> None:
    """Assert that the verdict names the fault and nothing else, at its hop, and accounts for the failed tests by it."""
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


def _assert_caught(run: Run, red: str) -> None:
    outcomes = run.outcomes()
    failed = {name for name, outcome in outcomes.items() if outcome != "passed"}
    assert failed == {name for name in outcomes if re.search(red, name)}, run.output
    assert failed, run.output
