"""The result of a run: recorded test by test, diagnosed if tests have failed, and written to the requested outputs."""

from __future__ import annotations

import signal
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mlflow_proxy_e2e import acceptance, options
from mlflow_proxy_e2e.endpoints.coverage import COVERAGE, Coverage
from mlflow_proxy_e2e.errors import SuiteError
from mlflow_proxy_e2e.plugin.failures import accept, judge
from mlflow_proxy_e2e.plugin.selection import runs_everything
from mlflow_proxy_e2e.report import junit, summary, verdicts
from mlflow_proxy_e2e.report.blame import BLAME, SUITE, is_own
from mlflow_proxy_e2e.report.outputs import OUTPUTS, Outputs
from mlflow_proxy_e2e.report.recorder import LEFT, RECORDER, RESULT, Recorder
from mlflow_proxy_e2e.report.terminal import say
from mlflow_proxy_e2e.report.verdicts import VERDICT
from mlflow_proxy_e2e.severity import chosen
from mlflow_proxy_e2e.stash import STACK, TARGET
from mlflow_proxy_e2e.traffic import TRAFFIC
from mlflow_proxy_e2e.version import mlflow_version

UNMATCHED = pytest.StashKey[tuple[str, ...]]()  # a line for each entry of the profile's [accept] that matches nothing


def record(config: pytest.Config) -> Recorder:
    """Start to record tests. Raises ReportError, BadOptionError if the result cannot be delivered."""
    config.stash[OUTPUTS] = Outputs.asked_for(config)
    config.stash[RECORDER] = recorder = Recorder(config.stash[TARGET], chosen(config.getoption("--fail-on")))
    config.pluginmanager.register(recorder)
    return recorder


def note(config: pytest.Config, error: SuiteError) -> None:
    """Record why the run cannot go on."""
    if recorder := config.stash.get(RECORDER, None):
        recorder.note(error)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Mark a test that failed through the suite's own fault, and end a run that has used up its requests."""
    report = yield
    if call.excinfo and is_own(call.excinfo.value):
        report.user_properties.append((BLAME, SUITE))
    if TRAFFIC.is_exhausted:
        item.session.shouldstop = str(TRAFFIC.exhaustion)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Diagnose the target while it is still running."""
    config = session.config
    if hasattr(config, "workeroutput"):
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a SIGTERM after Ctrl-C must not prevent the clean-up
    TRAFFIC.hope_again()  # a diagnosis looks for the reason, and routes that are back get cleaned up
    # With -x, --maxfail and after Ctrl-C, a session is interrupted, but tests have failed all the same.
    if STACK in config.stash and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED):
        reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
        is_full = exitstatus != pytest.ExitCode.INTERRUPTED and runs_everything(config)
        with TRAFFIC.uncounted():
            judged = judge(reporter, config.stash[TARGET], is_full=is_full, seconds=options.diagnosis_time(config))
        accept(reporter, judged.accepted)
        config.stash[RECORDER].judge(judged.verdict, judged.accepted)
        config.stash[UNMATCHED] = judged.unmatched
        if judged.verdict:
            config.stash[VERDICT] = judged.verdict


@pytest.hookimpl(specname="pytest_sessionfinish", trylast=True)
def pytest_deliver(session: pytest.Session) -> None:
    """Deliver the result at the end."""
    deliver(session)


def deliver(session: pytest.Session) -> None:
    """Write the result to the requested outputs. A test without an outcome does not count as a success."""
    config = session.config
    if not (recorder := config.stash.get(RECORDER, None)):
        return
    session.exitstatus = recorder.exit_code(session.exitstatus)
    if error := acceptance.error((*acceptance.outdated(recorder.target), *config.stash.get(UNMATCHED, ()))):
        say(config, f"{error}")
        recorder.note(error)
        session.exitstatus = session.exitstatus or error.exit_code
    with TRAFFIC.uncounted():
        version = mlflow_version(recorder.target) if recorder.works() else None
    config.stash[RESULT] = recorder.result(
        session.exitstatus,
        routes=map(str, options.selected(config, "--route", recorder.target.routes)),
        mlflow=version,
        left_behind=config.stash.get(LEFT, []),
    )
    if config.option.xmlpath:
        junit.amend(Path(config.option.xmlpath), config.stash[RESULT].checks)
    try:
        config.stash[OUTPUTS].write(config.stash[RESULT], partial(say, config))
    except SuiteError as error:
        say(config, f"{error}")
        session.exitstatus = session.exitstatus or error.exit_code


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    covered = config.stash.get(COVERAGE, Coverage())
    result = config.stash.get(RESULT, None)
    if result and result.bad:
        summary.write_logs(terminalreporter, config.stash[STACK].logs(), config.stash[TARGET].secrets)
    verdicts.write(terminalreporter, config.stash.get(VERDICT, None))  # after everything long, where it is seen first
    if result:
        summary.write(terminalreporter, result, covered)
    if covered.table and (file := config.option.endpoints):
        covered.write(Path(config.invocation_params.dir, file))
