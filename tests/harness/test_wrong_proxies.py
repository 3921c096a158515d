"""The suite's ability to fail on what stands in front of MLflow: each fault has an edge, a proxy and an auth service of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from fixtures.faults import CATALOGUE, fidelity, gate
from fixtures.stack.process import ProcessStack
from fixtures.target import Target
from tests.harness.conftest import StartRun
from tests.harness.detections import DETECTED_BY, WITH_A_SHARED_MLFLOW
from tests.harness.front import Front
from tests.harness.given import VARIABLE

# Of what these turn red the message has the request, and how to send it again. Others a client reports, or a log.
DESCRIBED = {fault.id for fault in (*gate.FAULTS, *fidelity.FAULTS)} - {
    "credential-leak",
    "key-echoed",
    "origin-403",
    "query-logged",
}

StartFaulty = Callable[[str], Target]


@pytest.fixture(scope="module")
def shared() -> Iterator[ProcessStack]:
    """Return the stack whose MLflow all others stand in front of."""
    stack = ProcessStack()
    try:
        stack.start()
        list(stack.until_ready())
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def start_faulty(shared: ProcessStack) -> Iterator[StartFaulty]:
    """Return a function that starts a system with a fault. Where its edge is in order there is no external route: one will do."""
    started: list[Front] = []

    def start(fault: str) -> Target:
        started.append(Front(shared, CATALOGUE[fault]))
        target = started[-1].start()
        list(started[-1].until_ready())
        return target if CATALOGUE[fault].hop == "edge" else replace(target, routes=(target.route("internal"),))

    yield start
    for stack in started:
        stack.stop()


@pytest.mark.parametrize("fault", WITH_A_SHARED_MLFLOW)
def test_fault_turns_its_tests_red(fault: str, start_faulty: StartFaulty, start_run: StartRun, tmp_path: Path) -> None:
    """A system with this fault fails the tests that the fault concerns, and no others."""
    tests, red = DETECTED_BY[fault]
    given = tmp_path / "target.json"
    given.touch(0o600)
    given.write_text(json.dumps(start_faulty(fault).to_data()))

    run = start_run("-p", "tests.harness.given", *tests, **{VARIABLE: str(given)})

    assert run.wait() == pytest.ExitCode.TESTS_FAILED, run.output
    outcomes: Mapping[str, str] = run.outcomes()
    failed = {name for name, outcome in outcomes.items() if outcome != "passed"}
    assert failed == {name for name in outcomes if re.search(red, name)}, run.output
    assert failed
    for part in ("sent      ", "came      ", "expected  ", "again     curl ") if fault in DESCRIBED else ():
        assert part in run.output
