"""What a profile accepts is reported as accepted and does not make a run fail; entries must match something and be in date."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
from click.testing import CliRunner

from mlflow_proxy_e2e import cli, diagnosis
from mlflow_proxy_e2e.acceptance import error, outdated
from mlflow_proxy_e2e.diagnosis import conclude
from mlflow_proxy_e2e.diagnosis.verdict import Finding, Verdict
from mlflow_proxy_e2e.errors import BadProfileError
from mlflow_proxy_e2e.facts.facts import Facts
from mlflow_proxy_e2e.facts.recording import Recording
from mlflow_proxy_e2e.plugin.failures import Judged, accept, judge
from mlflow_proxy_e2e.plugin.selection import runs_everything
from mlflow_proxy_e2e.report import junit
from mlflow_proxy_e2e.report.recorder import Recorder
from mlflow_proxy_e2e.report.result import Check
from mlflow_proxy_e2e.target import Acceptance, Identity, Route, Secret, Target
from tests.harness.conftest import ROOT

TEST = "tests/e2e/test_runs.py::test_search_runs[external-reader]"
OTHER = "tests/e2e/test_runs.py::test_search_runs[internal-reader]"
ECHOED = Finding(("proxy",), ("key-echoed",), "hardening", ("it repeats keys",), ("do not",), ("400",), (TEST,), "ticket 123")
DOWN = Finding(("proxy",), ("port-refused",), "down", ("the wrong port",), ("correct it",), ("502",), (OTHER,))


def target(*accepted: Acceptance) -> Target:
    """Return a target whose profile has these entries in [accept]."""
    writer = Identity("writer", frozenset({"read", "write"}), key=Secret("key-of-the-writer"))
    return Target("staging", (Route("external", "http://127.0.0.1:9"),), (writer,), frozenset(), accepted=accepted)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Judged]:
    """Return a function that judges failed tests, given the verdict of a diagnosis."""

    def judged(failed: Sequence[str], verdict: Verdict, *accepted: Acceptance, is_full: bool = True) -> Judged:
        monkeypatch.setattr(diagnosis, "diagnose", lambda *_, **__: verdict)
        reports = [pytest.TestReport(name, ("", 0, ""), {}, "failed", None, "call") for name in failed]
        return judge(Mock(stats={"failed": reports}), target(*accepted), is_full=is_full)

    return judged


@pytest.mark.parametrize(
    ("what", "covers"),
    [
        (TEST, [TEST]),
        ("*::test_search_runs[*-reader]", [TEST, OTHER]),
        ("tests/e2e/test_runs.py::test_search_runs", []),
        ("tests/e2e/test_run*", [TEST, OTHER]),
        ("key-echoed", []),
        (".", []),
    ],
)
def test_tests_that_an_entry_is_about(what: str, covers: list[str]) -> None:
    """An entry covers the tests with that id, in which only ``*`` is special."""
    assert [test for test in (TEST, OTHER) if Acceptance(what, "known").covers_test(test)] == covers


def test_failures_that_are_accepted(judged: Callable[..., Judged]) -> None:
    """Accepted are failures that an entry names, or that an accepted finding accounts for, each with the reason."""
    entries = Acceptance(OTHER, "ticket 7"), Acceptance("key-echoed", "ticket 123")

    assert judged([TEST, OTHER], Verdict((ECHOED,)), *entries) == (Verdict((ECHOED,)), {TEST: "ticket 123", OTHER: "ticket 7"}, ())


def test_entries_that_match_nothing(judged: Callable[..., Judged]) -> None:
    """Such entries are reported after a full run in which nothing else is wrong, since that might hide what they accept."""
    entries = Acceptance("tests/e2e/test_none.py::*", "known"), Acceptance("key-in-query-accepted", "known")
    told = ("tests/e2e/test_none.py::*: it matches no failed test", "key-in-query-accepted: no such cause was found")

    assert judged([], Verdict(), *entries).unmatched == told
    assert judged([TEST], Verdict((ECHOED,)), *entries).unmatched == told
    assert judged([], Verdict(not_asked=("key-in-query-accepted",)), *entries).unmatched == told[:1]
    assert judged([], Verdict(), *entries, is_full=False).unmatched == ()
    assert judged([OTHER], Verdict((DOWN,)), *entries).unmatched == ()


@pytest.mark.parametrize(
    ("arguments", "is_full"),
    [
        ("-m e2e", True),
        ("-m e2e -n 2 tests/e2e", True),
        ("-m smoke", False),
        ("-m e2e -k runs", False),
        ("-m e2e tests/e2e/test_runs.py", False),
        ("-m e2e --route=external", False),
        ("-m e2e --deselect=tests/e2e/test_runs.py", False),
    ],
)
def test_full_run(arguments: str, is_full: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    """A run is full if its command line selects all tests of a target."""
    monkeypatch.chdir(ROOT)

    assert runs_everything(pytest.Config.fromdictargs({}, arguments.split())) == is_full


def test_entry_past_its_date() -> None:
    """An entry holds through the day that it names."""
    entries = Acceptance("a", "until 2020-01-01", "2020-01-01"), Acceptance("b", "until 9999-12-31", "9999-12-31")

    told = error(outdated(target(*entries, Acceptance("c", "for ever"))))

    assert str(told) == "[accept] in the profile is out of date:\n  a: it was accepted until 2020-01-01."
    assert error(outdated(target(entries[1]))) is None


def test_pytest_counts_accepted_failures_as_expected_ones() -> None:
    """The terminal reporter lists them as ``xfailed``, with the reason, and leaves the others alone."""
    reports = [pytest.TestReport(name, ("", 0, ""), {}, "failed", None, "call") for name in (TEST, OTHER)]
    reporter = Mock(stats={"failed": [*reports]})

    accept(reporter, {TEST: "ticket 123"})

    assert reporter.stats == {"failed": [reports[1]], "xfailed": [reports[0]]}
    assert reports[0].wasxfail == "accepted: ticket 123"


@pytest.mark.parametrize(("accepted", "ends"), [([TEST], 1), ([TEST, OTHER], 0)])
def test_exit_code(accepted: list[str], ends: int) -> None:
    """A run fails unless every failure is accepted."""
    recorder = Recorder(target())
    for name in (TEST, OTHER):
        recorder.pytest_runtest_logreport(pytest.TestReport(name, ("", 0, ""), {}, "failed", None, "call"))

    recorder.judge(None, dict.fromkeys(accepted, "known"))

    assert recorder.exit_code(pytest.ExitCode.TESTS_FAILED) == ends
    assert recorder.exit_code(pytest.ExitCode.INTERRUPTED) == pytest.ExitCode.INTERRUPTED


JUNIT = """<?xml version="1.0" encoding="utf-8"?>
<testsuites><testsuite name="pytest" errors="0" failures="2" skipped="0" tests="2">
<testcase classname="tests.e2e.test_runs" name="test_search_runs[external-reader]"><failure message="no">why</failure></testcase>
<testcase classname="tests.e2e.test_runs" name="test_search_runs[internal-reader]">
<properties><property name="severity" value="down"/></properties><failure message="no">why</failure></testcase>
</testsuite></testsuites>
"""


def test_junit(tmp_path: Path) -> None:
    """An accepted failure looks like an expected one in the JUnit report, and the counts are right."""
    file = tmp_path / "junit.xml"
    file.write_text(JUNIT)

    junit.amend(
        file,
        [
            Check(TEST, None, None, "runs", "accepted", 0.0, "no", "down", "ticket 123"),
            Check(OTHER, None, None, "runs", "failed", 0.0, "no", "loss"),
        ],
    )

    (suite,) = ElementTree.parse(file).iter("testsuite")
    accepted, failed = suite.iter("testcase")
    assert [suite.get(name) for name in ("failures", "errors", "skipped", "tests")] == ["1", "0", "1", "2"]
    assert [(child.tag, child.attrib, child.text) for child in accepted] == [
        ("skipped", {"type": "pytest.xfail", "message": "accepted: ticket 123"}, "why")
    ]
    assert [child.tag for child in failed] == ["properties", "failure"]
    assert [each.attrib for each in failed.iter("property")] == [{"name": "severity", "value": "loss"}]


def accepting(file: Path, *causes: str) -> Recording:
    """Return the recording in a file, as if the target's profile accepted these causes."""
    recording = Recording.read(file)
    entries = tuple(Acceptance(cause, f"ticket about {cause}") for cause in causes)
    return Recording(replace(recording.target, accepted=entries), recording.observations)


def test_finding_that_is_accepted(recordings: Mapping[str, Path]) -> None:
    """A finding with an accepted cause is listed with the reason, and does not count as wrong."""
    verdict = conclude(Facts.recorded(accepting(recordings["key-in-query-accepted"], "key-in-query-accepted")))

    assert [finding.accepted for finding in verdict.findings] == ["ticket about key-in-query-accepted"]
    assert verdict.wrong == ()
    assert "accepted   ticket about key-in-query-accepted" in str(verdict)


def test_check_of_what_is_accepted(recordings: Mapping[str, Path], tmp_path: Path) -> None:
    """If nothing else is wrong, ``check`` succeeds and says so. Only the id of the cause itself accepts it."""
    files = {cause: tmp_path / f"{cause}.json" for cause in ("key-in-query-accepted", "key-echoed")}
    for cause, file in files.items():
        accepting(recordings["key-in-query-accepted"], cause).write(file, ())

    ends = {cause: CliRunner().invoke(cli.main, ["check", f"--facts={file}"]) for cause, file in files.items()}

    assert {cause: end.exit_code for cause, end in ends.items()} == {"key-in-query-accepted": 0, "key-echoed": 1}
    assert "nothing but accepted problems" in ends["key-in-query-accepted"].stdout


def test_check_with_an_entry_past_its_date(recordings: Mapping[str, Path], tmp_path: Path) -> None:
    """The entry is reported, and is an error in the profile if nothing else is wrong."""
    recording = accepting(recordings["right-as-it-is"])
    entry = Acceptance("key-echoed", "ticket 123; until 2020-01-01", "2020-01-01")
    Recording(replace(recording.target, accepted=(entry,)), recording.observations).write(tmp_path / "facts.json", ())

    ended = CliRunner().invoke(cli.main, ["check", f"--facts={tmp_path / 'facts.json'}"])

    assert ended.exit_code == BadProfileError.exit_code
    assert "key-echoed: it was accepted until 2020-01-01." in ended.stderr


def test_target_as_data() -> None:
    """Accepted problems survive the way to other processes."""
    one = target(Acceptance("key-echoed", "ticket 123; until 2027-03-01", "2027-03-01"))

    assert Target.from_data(json.loads(json.dumps(one.to_data()))) == one
