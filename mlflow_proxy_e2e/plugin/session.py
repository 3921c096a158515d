"""The life of a target within a session: one stack, owned by the controller, from its start to its clean-up."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from _pytest.mark.expression import Expression  # pytest has no public API for what -m selects

from mlflow_proxy_e2e import options, timeouts
from mlflow_proxy_e2e.errors import RequestLimitError, SuiteError
from mlflow_proxy_e2e.plugin import result
from mlflow_proxy_e2e.report.recorder import LEFT
from mlflow_proxy_e2e.report.terminal import say
from mlflow_proxy_e2e.run import Run
from mlflow_proxy_e2e.stack import Stack
from mlflow_proxy_e2e.stash import ISSUED, RUN, STACK, TARGET
from mlflow_proxy_e2e.target import Route, Target
from mlflow_proxy_e2e.traffic import TRAFFIC

CREATING = {"scratch", "shared_scratch"}  # fixtures that tests use to create something


def stack_of(config: pytest.Config) -> Stack:
    """Return the requested stack, not yet started. Raises SuiteError, BadOptionError if there is none."""
    stack: Stack | None = config.hook.pytest_mlflow_stack(config=config)
    return stack or options.deployed(config)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Start the stack before anything else, so that MLflow comes up while the workers start and collect."""
    config = session.config
    config.stash[ISSUED] = []
    if hasattr(config, "workerinput"):
        return
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        stack = stack_of(config)
        config.stash[TARGET] = stack.outline()
        config.stash[RUN] = Run.begin()
        options.check_selection(config, config.stash[TARGET])
        options.diagnosis_time(config)
        if _asks_for_stack(config):
            _start(config, stack)
    except SuiteError as error:
        _stop(config)
        result.note(config, error)
        session.exitstatus = error.exit_code
        result.deliver(session)  # pytest does not call the hook for a session that has not started
        pytest.exit(f"{error}", error.exit_code)


def _start(config: pytest.Config, stack: Stack) -> None:
    recorder = result.record(config)
    config.stash[STACK] = stack
    stack.say = partial(say, config)
    config.stash[TARGET] = recorder.target = stack.start()
    limit_traffic(config, processes=1)
    config.stash[RUN] = stack.begin()
    os.environ.update(stack.client)  # after the services got theirs, and before workers start


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Hold back the first test until the stack is ready."""
    if stack := session.config.stash.get(STACK, None):
        try:
            for service in stack.until_ready():
                say(session.config, f"{service.name:<7} ready after {service.seconds:4.1f} s")
        except SuiteError as error:
            result.note(session.config, error)
            pytest.exit(f"{error}", error.exit_code)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a test at once if its route, or the one for its clean-up, cannot be reached."""
    parameters = item.callspec.params.values() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
    routes = [parameter for parameter in parameters if isinstance(parameter, Route)]
    if CREATING & set(getattr(item, "fixturenames", ())):
        routes.append(item.config.stash[TARGET].truth.route)
    for route in routes:
        if reason := TRAFFIC.given_up.get(route.url):
            pytest.fail(reason, pytrace=False)


@pytest.hookimpl(specname="pytest_sessionfinish", trylast=True)
def pytest_clean_up(session: pytest.Session) -> None:
    """Remove what the run has left on the target, after its workers have ended."""
    config = session.config
    if hasattr(config, "workeroutput"):
        return
    if TRAFFIC.is_exhausted:
        session.exitstatus = RequestLimitError.exit_code
    if STACK in config.stash:
        config.stash[LEFT] = config.stash[STACK].end(config.stash[RUN])


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    _stop(config)


def _stop(config: pytest.Config) -> None:
    if stack := config.stash.get(STACK, None):
        stack.stop()
        del config.stash[STACK]


def _interrupt(_number: int, _frame: object) -> None:
    """End as after Ctrl-C, which removes what the run has created: cancelled CI jobs send this."""
    raise KeyboardInterrupt


def limit_traffic(config: pytest.Config, processes: int) -> None:
    """Limit this process, one of so many, to its share of the target's requests, and answers to their timeouts."""
    target: Target = config.stash[TARGET]
    TRAFFIC.limit(target, processes, timeouts.SMOKE_ANSWER if config.option.markexpr == "smoke" else timeouts.ANSWER)


def _asks_for_stack(config: pytest.Config) -> bool:
    """Tell whether the command line can select a test that needs a stack."""
    if config.option.collectonly:
        return False
    named = [Path(config.invocation_params.dir, argument.partition("::")[0]).resolve() for argument in config.args]
    marks = config.option.markexpr
    needing = (each for tests in config.hook.pytest_mlflow_tests(config=config) for each in tests.items())
    return any(
        not marks or Expression.compile(marks).evaluate(_only(mark))
        for mark, folder in needing
        if any(folder.is_relative_to(path) or path.is_relative_to(folder) for path in named)
    )


def _only(mark: str) -> Callable[..., bool]:
    return lambda name, /, **_: bool(name == mark)
