"""Severities of failures, and which of them make a run fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from mlflow_proxy_e2e import cli
from mlflow_proxy_e2e.diagnosis.verdict import Finding, Verdict
from mlflow_proxy_e2e.errors import BadOptionError
from mlflow_proxy_e2e.report.recorder import SEVERITY, Recorder
from mlflow_proxy_e2e.report.result import subject_of
from mlflow_proxy_e2e.severity import BY_SUBJECT, FAIL_ON, Severity, chosen, of_subject, worst
from mlflow_proxy_e2e.suite_folder import TESTS
from mlflow_proxy_e2e.target import Route, Target
from tests.harness.conftest import StartRun

TEST = "tests/e2e/test_runs.py::test_search_runs[external-reader]"
OF_SMOKE = {"denied-read", "denied-write"}  # subjects of single tests


def finding(severity: Severity, *tests: str) -> Finding:
    """Return a finding with that severity, which accounts for these tests."""
    return Finding(("proxy",), ("key-echoed",), severity, ("x",), ("y",), (), tests)


def exit_code(severity: Severity, *findings: Finding, fail_on: tuple[Severity, ...] = FAIL_ON) -> int:
    """Return the exit code of a run in which a test of that severity failed, and a diagnosis had these findings."""
    recorder = Recorder(Target("staging", (Route("external", "http://x"),), (), frozenset()), fail_on)
    report = pytest.TestReport(TEST, ("", 0, ""), {}, "failed", None, "call", user_properties=[(SEVERITY, severity)])
    recorder.pytest_runtest_logreport(report)
    recorder.judge(Verdict(findings), {})
    return recorder.exit_code(pytest.ExitCode.TESTS_FAILED)


def test_table_is_of_subjects_that_there_are() -> None:
    """Each line of the table is about a file of tests, or about some of the smoke tests."""
    assert set(BY_SUBJECT) - {subject_of(file.name) for file in TESTS.glob("test_*.py")} == OF_SMOKE


def test_severity_of_a_subject() -> None:
    """A subject that is not in the table has the severity of something that does not work."""
    assert [of_subject(subject) for subject in ("denials", "duplicate-writes", "runs")] == ["open", "loss", "down"]
    assert worst(["contract", "loss"]) == "loss"


@pytest.mark.parametrize(
    ("text", "severities"), [("open", ("open",)), ("contract, open", ("open", "contract")), (",".join(FAIL_ON), FAIL_ON)]
)
def test_severities_that_are_chosen(text: str, severities: tuple[Severity, ...]) -> None:
    """``--fail-on`` takes severities separated by commas, in any order."""
    assert chosen(text) == severities


@pytest.mark.parametrize("text", ["opne", "", "open,", "Open"])
def test_unknown_severity(text: str) -> None:
    """The message lists the valid severities."""
    with pytest.raises(BadOptionError, match=r"there is no severity '.*'\. Valid are open, loss, down, contract, hardening\."):
        chosen(text)


def test_exit_code_by_severity() -> None:
    """A failure fails a run only if ``--fail-on`` names its severity, which a finding that accounts for it decides."""
    assert exit_code("down") == pytest.ExitCode.TESTS_FAILED
    assert exit_code("hardening") == pytest.ExitCode.OK
    assert exit_code("hardening", fail_on=("hardening",)) == pytest.ExitCode.TESTS_FAILED
    assert exit_code("open", finding("hardening", TEST)) == pytest.ExitCode.OK
    assert exit_code("hardening", finding("contract", TEST)) == pytest.ExitCode.TESTS_FAILED
    assert exit_code("hardening", finding("open")) == pytest.ExitCode.TESTS_FAILED


def test_check_by_severity(recordings: dict[str, Path]) -> None:
    """A finding fails ``check`` only if ``--fail-on`` names its severity, but is reported in any case."""
    facts = f"--facts={recordings['internal-leak']}"

    ends = [CliRunner().invoke(cli.main, ["check", facts, *options]) for options in ((), ("--fail-on=open,hardening",))]

    assert [end.exit_code for end in ends] == [0, 1]
    assert all("\nseverity   hardening\n" in end.stdout for end in ends)


def test_severity_that_check_does_not_know() -> None:
    """The error is reported before any file is read."""
    ended = CliRunner().invoke(cli.main, ["check", "--facts=missing", "--fail-on=nits"])

    assert ended.exit_code == BadOptionError.exit_code
    assert ended.stderr.startswith("--fail-on=nits: there is no severity 'nits'.")


def test_severity_that_a_run_does_not_know(start_run: StartRun) -> None:
    """The error is reported before anything is started."""
    run = start_run("tests/e2e/test_runs.py", "--fail-on=nits")

    assert run.wait() == BadOptionError.exit_code, run.output
    assert "--fail-on=nits: there is no severity 'nits'. Valid are open," in run.output
    assert "Traceback" not in run.output
