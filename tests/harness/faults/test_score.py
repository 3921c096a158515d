"""The suite's ability to fail, and to say why: every fault turns exactly its tests red, and the verdict names it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from fixtures.faults import CATALOGUE
from fixtures.stack.branch import NotABranchError
from tests.harness.conftest import Run, StartRun
from tests.harness.detections import DETECTED_BY
from tests.harness.faults.conftest import SCORE, RunOn, StartBranch

MOST_CAUSES = 2  # that a verdict may leave open


@pytest.mark.parametrize("fault", sorted(DETECTED_BY))
def test_fault(
    fault: str, branches: StartBranch, run_on: RunOn, start_run: StartRun, record_property: Callable[[str, object], None]
) -> None:
    """A system with this fault fails the tests that the fault concerns, and no others; the verdict says what and where."""
    tests, red = DETECTED_BY[fault]
    record_property(SCORE, "faults")

    branch = branches(CATALOGUE[fault].inject)
    try:
        run = run_on(branch.start(), *tests, **branch.client)
    except NotABranchError:
        run = start_run(*tests, "--fault", fault)

    assert run.wait() == pytest.ExitCode.TESTS_FAILED, run.output
    _assert_caught(run, red)
    record_property(SCORE, "caught")
    hops, causes = run.verdict
    if fault in causes and len(causes) <= MOST_CAUSES:
        record_property(SCORE, "named")
    if CATALOGUE[fault].hop in hops:
        record_property(SCORE, "hop right")
    assert fault in causes, run.output
    assert len(causes) <= MOST_CAUSES, run.output
    assert CATALOGUE[fault].hop in hops, run.output


def _assert_caught(run: Run, red: str) -> None:
    outcomes = run.outcomes()
    failed = {name for name, outcome in outcomes.items() if outcome != "passed"}
    assert failed == {name for name in outcomes if re.search(red, name)}, run.output
    assert failed, run.output
