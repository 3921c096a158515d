"""Records the outcome of a run as it goes on, in the controller, which receives every test's report."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from importlib import metadata
from typing import TYPE_CHECKING, cast

import pytest

from mlflow_proxy_e2e.errors import SuiteError
from mlflow_proxy_e2e.exchanges import SENT_LAST, last_call
from mlflow_proxy_e2e.redaction import without
from mlflow_proxy_e2e.report.blame import BLAME, SUITE
from mlflow_proxy_e2e.report.result import REACHABLE, Check, Outcome, Result, Trouble, reachable, subject_of
from mlflow_proxy_e2e.severity import FAIL_ON, UNKNOWN, Severity
from mlflow_proxy_e2e.target import Target
from mlflow_proxy_e2e.wire import described

if TYPE_CHECKING:
    from mlflow_proxy_e2e.diagnosis.verdict import Verdict

RECORDER = pytest.StashKey["Recorder"]()  # where the runner's configuration holds it
LEFT = pytest.StashKey[Sequence[str]]()  # and what the run could not remove from the target
RESULT = pytest.StashKey[Result]()  # and, at the end, the run's result
DISTRIBUTION = "mlflow-proxy-e2e"
MESSAGE_LENGTH = 500  # characters; pytest's own output has the whole message
ROUTE, IDENTITY, CAPABILITY, SEVERITY = "route", "identity", "capability", "severity"  # the user properties of a test
CRASHED = "???"  # the phase that pytest-xdist reports for a test whose worker has crashed


class Recorder:
    """A plugin that records the outcome of each test, and whatever else goes wrong.

    Args:
        target: what is tested.
        fail_on: the severities that make a run fail.
    """

    def __init__(self, target: Target, fail_on: Sequence[Severity] = FAIL_ON) -> None:
        self.target, self._fail_on = target, tuple(fail_on)
        self._verdict: Verdict | None = None
        self._started, self._clock = datetime.now(timezone.utc), time.monotonic()
        self._checks: dict[str, Check] = {}
        self._errors: dict[str, Trouble] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record one phase of a test."""
        properties = {name: str(value) for name, value in report.user_properties}
        if report.when == CRASHED or properties.get(BLAME) == SUITE:
            self._fail(report.nodeid, self._shown(reason(report)))
            self._checks.pop(report.nodeid, None)
        elif report.nodeid not in self._errors:
            check = Check(
                report.nodeid,
                properties.get(ROUTE),
                properties.get(IDENTITY),
                properties.get(CAPABILITY) or subject_of(report.nodeid.partition("::")[0]),
                _outcome(report),
                report.duration,
                "" if report.passed else self._shown(failure(report)),
                severity_of(report) if report.failed else None,
            )
            known = self._checks.get(report.nodeid)
            self._checks[report.nodeid] = known.then(check) if known else check

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Record a collection error."""
        if report.failed:
            self._fail(report.nodeid, self._shown(reason(report)))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Add unreachable routes to pytest's own reports: a JUnit report without any test counts as a success."""
        for check in [check for check in self._checks.values() if check.capability == REACHABLE]:
            for report in _phases(check):
                session.config.hook.pytest_runtest_logreport(report=report)

    def note(self, error: SuiteError) -> None:
        """Record why the suite cannot go on, or need not, since the target cannot be reached."""
        if not error.blames_target:
            self._fail(type(error).__name__, str(error))
        for route in map(str, self.target.routes if error.blames_target else ()):
            check = Check(reachable(route), route, None, REACHABLE, "failed", 0.0, self._clean(str(error)), UNKNOWN)
            self._checks[check.id] = check

    def judge(self, verdict: Verdict | None, accepted: Mapping[str, str]) -> None:
        """Record the verdict, the severities that it gives failures, and which failures are accepted, and why."""
        self._verdict = verdict
        severities = verdict.severities if verdict else {}
        for name in severities.keys() & self._checks.keys():
            self._checks[name] = replace(self._checks[name], severity=severities[name])
        for name in accepted.keys() & self._checks.keys():
            self._checks[name] = replace(self._checks[name], outcome="accepted", accepted=accepted[name])

    def exit_code(self, given: int) -> int:
        """Return the run's exit code, given pytest's own."""
        if given in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED):
            checks = self._checks.values()
            fails = any(check.is_bad and check.severity in self._fail_on for check in checks)
            fails = fails or bool(self._verdict and self._verdict.fails(self._fail_on))
            if self._errors and not any(check.is_bad for check in checks):
                return SuiteError.exit_code
            if given == pytest.ExitCode.OK and {check.outcome for check in checks} == {"skipped"}:
                return pytest.ExitCode.NO_TESTS_COLLECTED
            if given == pytest.ExitCode.OK and fails:
                return pytest.ExitCode.TESTS_FAILED
            if given == pytest.ExitCode.TESTS_FAILED and not fails and any(check.severity for check in checks):
                return pytest.ExitCode.OK
        return given

    def works(self) -> bool:
        """Tell whether anything has passed."""
        return any(check.outcome == "passed" for check in self._checks.values())

    def result(
        self,
        exit_code: int,
        *,
        routes: Iterable[str],
        mlflow: str | None,
        left_behind: Sequence[str],
    ) -> Result:
        """Return the result of the run so far, with what else is known."""
        return Result(
            target=self.target.name,
            routes=tuple(routes),
            started=self._started,
            seconds=time.monotonic() - self._clock,
            suite=_version(),
            mlflow=mlflow,
            exit_code=int(exit_code),
            checks=tuple(self._checks.values()),
            fail_on=self._fail_on,
            verdict=self._verdict,
            errors=tuple(self._errors.values()),
            left_behind=tuple(map(self._clean, left_behind)),
        )

    def _fail(self, where: str, why: str) -> None:
        self._errors.setdefault(where, Trouble(where, self._clean(why)))

    def _shown(self, text: str) -> str:
        return self._clean(text)[:MESSAGE_LENGTH]  # in this order: half a key is a secret, too

    def _clean(self, text: str) -> str:
        return without(self.target.secrets, text)


def _phases(check: Check) -> Iterator[pytest.TestReport]:
    """Return the reports of a failed check as if it were a test: JUnit writes properties at the end of one."""
    properties = [(ROUTE, str(check.route)), (CAPABILITY, check.capability)]
    where = ("", None, check.id)
    yield pytest.TestReport(check.id, where, {}, "failed", check.message, "call", user_properties=properties)
    yield pytest.TestReport(check.id, where, {}, "passed", None, "teardown", user_properties=properties)


def reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return in a few lines why a test did not pass."""
    if isinstance(report.longrepr, tuple):  # of a skip: file, line and reason
        return report.longrepr[2].removeprefix("Skipped: ")
    if crash := getattr(report.longrepr, "reprcrash", None):
        return str(crash.message)
    lines = report.longreprtext.splitlines()
    return "\n".join([line[1:].strip() for line in lines if line.startswith("E ")] or lines[-3:])


def failure(report: pytest.TestReport) -> str:
    """Return the same for a test of the target, with its last request and the answer unless the message already has them."""
    message = reason(report)
    sent_last = dict(report.sections).get(SENT_LAST)
    if report.when != "call" or sent_last is None or described(message):
        return message
    return f"{message}\n{last_call(sent_last)}"


def severity_of(report: pytest.TestReport) -> Severity:
    """Return the severity of a failure by its subject or mark. An error in set-up never counts as an open door."""
    said = {name: str(value) for name, value in report.user_properties}
    return cast(Severity, said.get(SEVERITY, UNKNOWN)) if report.when == "call" else UNKNOWN


def _outcome(report: pytest.TestReport) -> Outcome:
    if report.failed:
        return "failed" if report.when == "call" else "error"
    # Set-up and clean-up alone do not make a test pass.
    return "passed" if report.passed and report.when == "call" else "skipped"


def _version() -> str:
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "unknown"  # run from a checkout that is not installed
