"""What the tests of faults share: one MLflow for all, and a score of what is caught and named."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fixtures.faults.fault import Fault
from fixtures.stack.process import ProcessStack
from fixtures.target import Target
from tests.harness.conftest import Run, StartRun
from tests.harness.faults.front import Front
from tests.harness.given import VARIABLE

SCORE = "score"  # the user property of a test that says what it has found: caught, named, hop, false alarm
EVERY = 3  # every so many faults are a sample of them, for every change

StartFront = Callable[[Fault | None], Front]
RunOn = Callable[..., Run]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [item for item in items if item.path.is_relative_to(Path(__file__).parent)]
    for number, item in enumerate(ours):
        item.add_marker(pytest.mark.faults)
        if number % EVERY == 0:
            item.add_marker(pytest.mark.sample)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [r for name in ("passed", "failed") for r in terminalreporter.stats.get(name, ()) if r.when == "call"]
    score = Counter(value for report in reports for name, value in report.user_properties if name == SCORE)
    if score["faults"]:
        terminalreporter.write_sep("=", "score")
        for what in ("caught", "named", "hop right"):
            terminalreporter.write_line(f"{what:<14}{score[what]} of {score['faults']} faults")
    if score["variations"]:
        terminalreporter.write_line(f"{'false alarms':<14}{score['false alarms']} of {score['variations']} correct variations")


@pytest.fixture(scope="session")
def trunk() -> Iterator[ProcessStack]:
    """Return the stack whose MLflow all others stand in front of."""
    stack = ProcessStack()
    try:
        stack.start()
        list(stack.until_ready())
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def start_front(trunk: ProcessStack) -> Iterator[StartFront]:
    """Return a function that starts what stands in front of the MLflow that all share, with a fault in it or without."""
    started: list[Front] = []

    def start(fault: Fault | None) -> Front:
        started.append(Front(trunk, fault))
        started[-1].start()
        list(started[-1].until_ready())
        return started[-1]

    yield start
    for front in started:
        front.stop()


@pytest.fixture
def run_on(start_run: StartRun, tmp_path: Path) -> RunOn:
    """Return a function that starts a run against a target that is up."""

    def run(target: Target, *arguments: str, **environment: str) -> Run:
        given = tmp_path / "target.json"
        given.touch(0o600)
        given.write_text(json.dumps(target.to_data()))
        return start_run("-p", "tests.harness.given", *arguments, **{VARIABLE: str(given)}, **environment)

    return run
