"""What the tests of faults share: one MLflow for all, and a score of what is caught and named."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from fixtures.faults.fault import Fault
from fixtures.faults.suite import CONVERSATION, E2E
from fixtures.stack.process import ProcessStack
from mlflow_proxy_e2e.diagnosis import diagnose
from mlflow_proxy_e2e.target import Target
from tests.harness.conftest import Run, StartRun
from tests.harness.faults import forked
from tests.harness.faults.front import Front
from tests.harness.given import VARIABLE

SCORE = "score"  # the user property of a test with its result: caught, named, hop, false alarm
FAILED, ACCOUNTED = "failed tests", "accounted for"  # how many tests have failed, and how many of them a finding accounts for
FAULT_SCORES = ("caught", "named", "hop right", "nothing else named")
HEAD = """\
# Score

How many of the known faults are caught by exactly the tests that they concern, and named by the verdict, exactly or as
one of two.

`tox -e faults -- --score=FILE` writes this page.
"""
EVERY = 3  # one fault in this many is tested for every change

PATIENT = 30  # seconds for a diagnosis, as several systems share this machine: what is measured here is what it says
# The tests that a correct system must pass without a verdict.
RIGHT = (f"{E2E}/test_smoke.py", CONVERSATION, f"{E2E}/test_denials.py::test_read", f"{E2E}/test_fidelity_requests.py::test_query")

StartFront = Callable[[Fault | None], Front]
RunOn = Callable[..., Run]
AssertRight = Callable[..., None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # By name, so that adding a test does not change which of the others are run.
        if item.path.is_relative_to(Path(__file__).parent) and zlib.crc32(item.nodeid.encode()) % EVERY:
            item.add_marker(pytest.mark.nightly)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--score", metavar="FILE", help="write what was caught and named (Markdown)")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    found = {report.nodeid: _found(report) for name in ("passed", "failed") for report in terminalreporter.stats.get(name, ())}
    lines = [f"{what:<20}{of}" for what, of in {**_score(found), **_attribution(terminalreporter)}.items()]
    if lines:
        terminalreporter.write_sep("=", "score")
        terminalreporter.write_line("\n".join(lines))
    if file := config.getoption("--score", None):
        Path(config.invocation_params.dir, file).write_text(_page(found))


def _found(report: pytest.TestReport) -> set[object]:
    return {value for name, value in report.user_properties if name == SCORE}


def _score(found: Mapping[str, set[object]]) -> Mapping[str, str]:
    """Return the totals of the score, such as "12 of 14 faults", by name."""
    count = Counter(value for values in found.values() for value in values)
    score = {what: f"{count[what]} of {count['faults']} faults" for what in FAULT_SCORES if count["faults"]}
    if count["compounds"]:
        score["compounds"] = f"{count['compounds named']} of {count['compounds']} named in full, and nothing else"
    if count["variations"]:
        score["false alarms"] = f"{count['false alarms']} of {count['variations']} correct variations"
    return score


def _attribution(reporter: pytest.TerminalReporter) -> Mapping[str, str]:
    """Return how many of the tests that faults made fail are accounted for by the verdict's findings of these faults."""
    reports = [report for name in ("passed", "failed") for report in reporter.stats.get(name, ())]
    count: Counter[str] = Counter()
    for report in reports:
        count.update({str(name): int(str(value)) for name, value in report.user_properties if name in (FAILED, ACCOUNTED)})
    return {ACCOUNTED: f"{count[ACCOUNTED]} of {count[FAILED]} failed tests"} if count[FAILED] else {}


def _page(found: Mapping[str, set[object]]) -> str:
    """Return the score as a page of the documentation."""
    faults = {nodeid.partition("[")[2].rstrip("]"): values for nodeid, values in found.items() if "faults" in values}
    rows = [
        f"| `{fault}` | " + " | ".join("yes" if what in values else "no" for what in FAULT_SCORES) + " |"
        for fault, values in sorted(faults.items())
    ]
    totals = [f"- {what}: {of}" for what, of in _score(found).items()]
    return "\n".join([HEAD, *totals, "", f"| fault | {' | '.join(FAULT_SCORES)} |", "|---|---|---|---|", *rows, ""])


@pytest.fixture(scope="session", autouse=True)
def process_to_fork() -> None:
    """Start it first, as it takes longer than anything else."""
    forked.prepare()


@pytest.fixture(scope="session")
def trunk() -> Iterator[ProcessStack]:
    """Return the stack whose MLflow all other stacks use."""
    stack = ProcessStack()
    try:
        stack.start()
        list(stack.until_ready())
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def start_front(trunk: ProcessStack) -> Iterator[StartFront]:
    """Return a function that starts a stack in front of the shared MLflow, with a fault or without."""
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
    """Return a function that starts a run against a running target."""

    def run(target: Target, *arguments: str, **environment: str) -> Run:
        given = tmp_path / "target.json"
        given.touch(0o600)
        given.write_text(json.dumps(target.to_data()))
        given_target = ("-p", "tests.harness.given", f"--diagnosis-time={PATIENT}")
        return start_run(*given_target, *arguments, begin=forked.Forked, **{VARIABLE: str(given)}, **environment)

    return run


@pytest.fixture
def assert_right(run_on: RunOn, record_property: Callable[[str, object], None]) -> AssertRight:
    """Return a function that asserts that a target passes some named tests and others, and gets no verdict."""

    def assert_right(target: Target, *tests: str) -> None:
        record_property(SCORE, "variations")
        run = run_on(target, *RIGHT, *tests, "--route", target.routes[0].name)
        ended = run.wait()
        verdict = diagnose(target, seconds=PATIENT)

        if ended != pytest.ExitCode.OK or verdict:
            record_property(SCORE, "false alarms")
        assert ended == pytest.ExitCode.OK, run.output
        assert not verdict.findings, "\n\n".join(map(str, verdict.findings))

    return assert_right
