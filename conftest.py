"""Options and wiring: one stack a run, owned by the process that the user started, its target handed to workers as data."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark.expression import Expression  # pytest has no public way to ask what -m selects

from fixtures import options
from fixtures.faults.pages import listing
from mlflow_proxy_e2e import access_log, timeouts
from mlflow_proxy_e2e.deployed import DeployedStack
from mlflow_proxy_e2e.endpoints.coverage import COVERAGE, Coverage
from mlflow_proxy_e2e.errors import BadOptionError, RequestLimitError, SuiteError, SweepError
from mlflow_proxy_e2e.redaction import Redaction, redact, without
from mlflow_proxy_e2e.report import summary, verdicts
from mlflow_proxy_e2e.report.blame import BLAME, SUITE, is_own
from mlflow_proxy_e2e.report.outputs import OUTPUTS, Outputs
from mlflow_proxy_e2e.report.recorder import LEFT, RECORDER, RESULT, Recorder
from mlflow_proxy_e2e.report.verdicts import VERDICTS
from mlflow_proxy_e2e.run import Run
from mlflow_proxy_e2e.stash import ISSUED, RUN, STACK, TARGET
from mlflow_proxy_e2e.target import Route, Secret, Target
from mlflow_proxy_e2e.traffic import TRAFFIC
from mlflow_proxy_e2e.version import mlflow_version

TESTS = Path(__file__).parent / "tests"
NEEDING_A_STACK = {  # by the mark of their tests
    "e2e": TESTS / "e2e",
    "smoke": TESTS / "e2e",
    "outages": TESTS / "outages",
    "containers": TESTS / "containers",
}
CREATING = {"scratch", "shared_scratch"}  # fixtures with which a test creates something


def pytest_addoption(parser: pytest.Parser) -> None:
    options.declare(parser)


class InternalErrors:
    """Keeps keys out of what pytest tells of an error that is none of a test's."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(tryfirst=True)
    def pytest_internalerror(self, excrepr: Any) -> None:
        """Redact the error before anybody writes it."""
        secrets = _secrets(self._config)
        text = str(excrepr)
        excrepr.toterminal = lambda writer: writer.line(without(secrets, text))


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(InternalErrors(config))
    access_log.READERS["docker"] = _docker_log
    gc.freeze()  # what has been imported is never garbage, and to look for that takes a second at the end of every process


def pytest_cmdline_main(config: pytest.Config) -> int | None:
    if config.option.list_faults:
        print(listing())  # noqa: T201
        return pytest.ExitCode.OK
    return _sweep(config) if config.option.sweep else None


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Start the stack before anything else, so that MLflow comes up while the workers start and collect."""
    config = session.config
    config.stash[COVERAGE] = Coverage()
    config.stash[ISSUED] = []
    try:
        if hasattr(config, "workerinput"):
            config.stash[TARGET] = Target.from_data(config.workerinput["target"])
            config.pluginmanager.register(Redaction(config.stash[TARGET].secrets))
            config.stash[RUN] = Run(**config.workerinput["run"]).joined()
            TRAFFIC.limit(config.stash[TARGET], config.workerinput["workercount"], _answer_seconds(config))
            TRAFFIC.given_up.update(config.workerinput["given_up"])
            return
        signal.signal(signal.SIGTERM, _interrupt)
        stack = options.stack(config)
        config.stash[TARGET] = stack.outline()
        config.stash[RUN] = Run.begin()
        options.check_selection(config, config.stash[TARGET])
        if _asks_for_stack(config):
            config.stash[OUTPUTS] = Outputs.asked_for(config)
            config.stash[RECORDER] = recorder = Recorder(config.stash[TARGET])
            config.pluginmanager.register(recorder)
            config.stash[STACK] = stack
            stack.say = partial(_say, config)
            config.stash[TARGET] = recorder.target = stack.start()
            config.pluginmanager.register(Redaction(config.stash[TARGET].secrets))
            TRAFFIC.limit(config.stash[TARGET], 1, _answer_seconds(config))
            config.stash[RUN] = stack.begin()
            os.environ.update(stack.client)  # once the services have theirs, and before there are workers
    except SuiteError as error:
        config.option.keep_stack = False  # there is nothing to keep
        _note(config, error)
        session.exitstatus = error.exit_code
        pytest_deliver(session)  # pytest does not call it for a session that has not started
        pytest.exit(f"{error}", error.exit_code)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["target"] = node.config.stash[TARGET].to_data()
    node.workerinput["run"] = node.config.stash[RUN].to_data()
    node.workerinput["given_up"] = TRAFFIC.given_up


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    told = getattr(node, "workeroutput", {})
    node.config.stash[COVERAGE].add(told.get("coverage", {}))
    if told.get("exhausted"):
        TRAFFIC.exhaust()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput["coverage"] = config.stash[COVERAGE].to_data()
        config.workeroutput["exhausted"] = TRAFFIC.is_exhausted
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # who sends one after a Ctrl-C must not keep anything from being removed
    TRAFFIC.hope_again()  # a diagnosis asks why, and what has come back is cleaned up
    if STACK in config.stash and exitstatus == pytest.ExitCode.TESTS_FAILED:
        reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
        with TRAFFIC.uncounted():
            config.stash[VERDICTS] = verdicts.find(reporter, config.stash[TARGET])


@pytest.hookimpl(specname="pytest_sessionfinish", trylast=True)
def pytest_clean_up(session: pytest.Session) -> None:
    """Remove what the run has left on the target, once its workers have ended."""
    config = session.config
    if hasattr(config, "workeroutput"):
        return
    if TRAFFIC.is_exhausted:
        session.exitstatus = RequestLimitError.exit_code
    if STACK in config.stash:
        config.stash[LEFT] = config.stash[STACK].end(config.stash[RUN])


@pytest.hookimpl(specname="pytest_sessionfinish", trylast=True)
def pytest_deliver(session: pytest.Session) -> None:
    """Write what came of the run to wherever that was asked for. A test that nothing came of is no success."""
    config = session.config
    if not (recorder := config.stash.get(RECORDER, None)):
        return
    session.exitstatus = recorder.exit_code(session.exitstatus)
    with TRAFFIC.uncounted():
        version = mlflow_version(recorder.target) if recorder.works() else None
    config.stash[RESULT] = recorder.result(
        session.exitstatus,
        routes=map(str, options.selected(config, "--route", recorder.target.routes)),
        mlflow=version,
        verdicts=config.stash.get(VERDICTS, []),
        left_behind=config.stash.get(LEFT, []),
    )
    try:
        config.stash[OUTPUTS].write(config.stash[RESULT], partial(_say, config))
    except SuiteError as error:
        _say(config, f"{error}")
        session.exitstatus = session.exitstatus or error.exit_code


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Hold the first test back until the stack is ready."""
    if stack := session.config.stash.get(STACK, None):
        try:
            for service in stack.until_ready():
                _say(session.config, f"{service.name:<7} ready after {service.seconds:4.1f} s")
        except SuiteError as error:
            _note(session.config, error)
            pytest.exit(f"{error}", error.exit_code)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a test at once that is about a route on which nobody answers, or that is cleaned up after on one."""
    parameters = item.callspec.params.values() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
    routes = [parameter for parameter in parameters if isinstance(parameter, Route)]
    if CREATING & set(getattr(item, "fixturenames", ())):
        routes.append(item.config.stash[TARGET].truth.route)
    for route in routes:
        if reason := TRAFFIC.given_up.get(route.url):
            pytest.fail(reason, pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.excinfo and is_own(call.excinfo.value):
        report.user_properties.append((BLAME, SUITE))
    if TRAFFIC.is_exhausted:
        item.session.shouldstop = str(TRAFFIC.exhaustion)
    redact(report, _secrets(item.config))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    covered = config.stash.get(COVERAGE, Coverage())
    result = config.stash.get(RESULT, None)
    if result and result.bad:
        summary.write_logs(terminalreporter, config.stash[STACK].logs(), config.stash[TARGET].secrets)
    verdicts.write(terminalreporter, config.stash.get(VERDICTS, []))  # below all that is long, where it is seen first
    if result:
        summary.write(terminalreporter, result, covered)
    if covered.table and (file := config.option.endpoints):
        covered.write(Path(config.invocation_params.dir, file))


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    if stack := config.stash.get(STACK, None):
        if config.option.keep_stack:
            _say(config, f"What is left running:\n{stack.keep()}")
        stack.stop()


def _docker_log(container: str) -> str:
    from fixtures.stack import engine  # takes its time, and most runs need none of it

    return engine.log(container)


def _interrupt(_number: int, _frame: object) -> None:
    """End as after Ctrl-C, which removes what the run has created: whoever cancels a job of a CI sends this."""
    raise KeyboardInterrupt


def _note(config: pytest.Config, error: SuiteError) -> None:
    if recorder := config.stash.get(RECORDER, None):
        recorder.note(error)


def _sweep(config: pytest.Config) -> int:
    try:
        stack = options.stack(config)
        if not isinstance(stack, DeployedStack):
            raise BadOptionError("--sweep needs --target=FILE, the profile of the target: a stack of our own leaves nothing.")
        swept = stack.sweep()
    except SuiteError as error:
        print(error)  # noqa: T201
        return error.exit_code
    print(*swept.lines(), f"{len(swept.removed)} removed, {len(swept.failed)} not", sep="\n")  # noqa: T201
    return SweepError.exit_code if swept.failed else pytest.ExitCode.OK


def _asks_for_stack(config: pytest.Config) -> bool:
    """Tell whether the command line can select a test that needs a stack."""
    if config.option.collectonly:
        return False
    named = [Path(config.invocation_params.dir, argument.partition("::")[0]).resolve() for argument in config.args]
    marks = config.option.markexpr
    return any(
        not marks or Expression.compile(marks).evaluate(_only(mark))
        for mark, folder in NEEDING_A_STACK.items()
        if any(folder.is_relative_to(path) or path.is_relative_to(folder) for path in named)
    )


def _only(mark: str) -> Callable[..., bool]:
    return lambda name, /, **_: bool(name == mark)


def _secrets(config: pytest.Config) -> tuple[Secret, ...]:
    target = config.stash.get(TARGET, None)
    return (*(target.secrets if target else ()), *config.stash.get(ISSUED, []))


def _answer_seconds(config: pytest.Config) -> float:
    return timeouts.SMOKE_ANSWER if config.option.markexpr == "smoke" else timeouts.ANSWER


def _say(config: pytest.Config, text: str) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter:
        reporter.ensure_newline()
        reporter.write_line(text)
