"""Fixtures for tests of a target.

``route``, ``can_read``, ``can_write``, ``cannot_read``, ``cannot_write`` and ``carrier`` each run a test once for every route,
for every identity that is, or is not, allowed such calls, and for every carrier.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import RunInfo
from urllib3.connection import HTTPConnection

from mlflow_proxy_e2e.access_log import AccessLog
from mlflow_proxy_e2e.checks.denials import Refused
from mlflow_proxy_e2e.checks.fidelity import Run, done, post
from mlflow_proxy_e2e.checks.gate import READ, WRITE, Gate, Marks, Subject
from mlflow_proxy_e2e.checks.policy import skip_if_decided_otherwise, skipping
from mlflow_proxy_e2e.clients import client_of, signed_in
from mlflow_proxy_e2e.endpoints.coverage import COVERAGE, Coverage
from mlflow_proxy_e2e.endpoints.served import as_served, served
from mlflow_proxy_e2e.exchanges import EXCHANGES, REQUESTS, SENT_LAST
from mlflow_proxy_e2e.options import selected
from mlflow_proxy_e2e.report.recorder import CAPABILITY, IDENTITY, ROUTE, SEVERITY
from mlflow_proxy_e2e.report.result import subject_of
from mlflow_proxy_e2e.rest import Rest
from mlflow_proxy_e2e.scratch import Scratch
from mlflow_proxy_e2e.severity import of_subject
from mlflow_proxy_e2e.stash import RUN, TARGET
from mlflow_proxy_e2e.target import CAPABILITIES, Caller, Carrier, Identity, Route, Target
from mlflow_proxy_e2e.traffic import controlled
from mlflow_proxy_e2e.wire import Wire

EMPTY_AXIS = pytest.param(None, marks=pytest.mark.skip("the target has nobody of the kind that the test is about"), id="nobody")
HERE = Path(__file__).parent
SMOKE = "test_smoke.py"
UNWANTED = (
    *("MLFLOW_TRACKING_INSECURE_TLS", "MLFLOW_TRACKING_CLIENT_CERT_PATH"),
    *("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID", "MLFLOW_WORKSPACE"),
    # Each of these sends traces elsewhere, or nowhere.
    *("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SDK_DISABLED"),
    *("MLFLOW_TRACING_DESTINATION", "MLFLOW_TRACE_SAMPLING_RATIO"),
)


READS_ONLY = "no identity of the target may write: the run reads only"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip collecting other files if only smoke tests are requested: importing them takes as long as running those."""
    others = config.option.markexpr == "smoke" and collection_path.is_file() and collection_path.name != SMOKE
    return True if others else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    config = metafunc.config
    target = config.stash[TARGET]
    axes: dict[str, Sequence[Route | Identity | Carrier]] = {
        "route": selected(config, "--route", target.routes),
        "can_read": selected(config, "--identity", target.who_may("read")),
        "can_only_read": selected(config, "--identity", (i for i in target.who_may("read") if not i.may("write"))),
        "can_write": selected(config, "--identity", target.who_may("write")),
        "cannot_read": selected(config, "--identity", target.who_may_not("read")),
        "cannot_write": selected(config, "--identity", target.who_may_not("write")),
        "carrier": sorted(target.carriers),
    }
    marks = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    by_target = [mark.args for mark in metafunc.definition.iter_markers("parametrize_by_target")]
    marks += [names for names, _ in by_target]
    chosen = {name for names in marks for name in ([names] if isinstance(names, str) else names)}
    for name, values in axes.items():
        if name in metafunc.fixturenames and name not in chosen:
            metafunc.parametrize(name, values or [EMPTY_AXIS], ids=str)
    for names, values_of in by_target:
        metafunc.parametrize(names, values_of(target))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            item.user_properties.extend(_whom_and_what(item))


def _whom_and_what(item: pytest.Item) -> Iterator[tuple[str, str]]:
    """Return what reports count a test under."""
    parameters = item.callspec.params.values() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
    for name, kind in ((ROUTE, Route), (IDENTITY, Identity)):
        yield from ((name, str(parameter)) for parameter in parameters if isinstance(parameter, kind))
    about, severity = item.get_closest_marker("subject"), item.get_closest_marker("severity")
    subject = about.args[0] if about else subject_of(item.path.name)
    yield CAPABILITY, subject
    yield SEVERITY, severity.args[0] if severity else of_subject(subject)


def pytest_runtest_setup(item: pytest.Item) -> None:
    assert isinstance(item, pytest.Function)
    target = item.config.stash[TARGET]
    for version in (version for marker in item.iter_markers("since") for version in marker.args):
        if reason := served(target).why_too_old(version):
            pytest.skip(reason)
    for name in (name for marker in item.iter_markers("capability") for name in marker.args):
        if reason := served(target).why_not(name):
            pytest.skip(reason)
        if name not in target.capabilities:
            pytest.skip(f"the target does not declare the capability '{name}': {CAPABILITIES[name]}")
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    if (carrier := parameters.get("carrier", target.carriers[0])) not in target.carriers:
        pytest.skip(f"the target does not take a key as {carrier}")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Add the test's name to all of its requests."""
    with EXCHANGES.of(item.nodeid):
        return (yield)


@pytest.hookimpl(wrapper=True, specname="pytest_runtest_setup")
def pytest_skip_in_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Skip a test if its set-up makes a call that the target's policy decides differently from the default table."""
    with _skipping(item):
        return (yield)


@pytest.hookimpl(wrapper=True, specname="pytest_runtest_call")
def pytest_skip_in_call(item: pytest.Item) -> Generator[None, object, object]:
    """Skip a test if it makes such a call itself. What it created is removed in any case."""
    with _skipping(item):
        return (yield)


def _skipping(item: pytest.Item) -> AbstractContextManager[None]:
    target: Target = item.config.stash[TARGET]
    return nullcontext() if item.get_closest_marker("judges_policy") else skipping(target)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Record the last requests of a failed test, with the ids under which all hops log them."""
    report = yield
    if report.failed and EXCHANGES.last:
        report.sections.append((SENT_LAST, "\n".join(map(str, EXCHANGES.last))))
        for properties in (report.user_properties, item.user_properties):  # later reports get the latter, JUnit's among them
            properties.extend((REQUESTS, exchange.request_id) for exchange in EXCHANGES.last)
    return report


@pytest.fixture(scope="session")
def target(pytestconfig: pytest.Config) -> Target:
    """Return the target, with its capabilities."""
    return as_served(pytestconfig.stash[TARGET])


@pytest.fixture(scope="session")
def user_environment() -> Mapping[str, str]:
    """Return the user's environment, before the variables that would change calls are removed."""
    return dict(os.environ)


@pytest.fixture(scope="session", autouse=True)
def client_environment(tmp_path_factory: pytest.TempPathFactory, user_environment: Mapping[str, str]) -> Iterator[None]:  # noqa: ARG001
    """Keep this machine's settings for MLflow and HTTP from changing calls."""
    with pytest.MonkeyPatch.context() as environment:
        home = tmp_path_factory.mktemp("home")
        environment.setenv("HOME", str(home))  # ~/.mlflow/credentials replaces a token
        environment.setenv("NETRC", str(home / ".netrc"))  # so does a .netrc
        environment.setenv("NO_PROXY", "*")  # this machine's HTTP proxy is not one of the hops
        environment.setenv("no_proxy", "*")  # takes precedence if it is set
        environment.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        environment.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        environment.setenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        environment.setenv("GIT_PYTHON_REFRESH", "quiet")
        environment.setenv("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "false")  # send a trace before its block ends, with its key
        for variable in UNWANTED:
            environment.delenv(variable, raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def coverage(pytestconfig: pytest.Config, target: Target) -> Iterator[Coverage]:
    """Return the calls of everything that is sent with urllib3."""
    seen = pytestconfig.stash[COVERAGE]
    with controlled(target, seen.calls):
        yield seen


@pytest.fixture(scope="session")
def control(target: Target) -> Identity:
    """Return an identity that is allowed everything: its call must succeed before another's denial counts."""
    if not target.who_may("write"):
        pytest.skip(READS_ONLY)
    return target.who_may("write")[0]


@pytest.fixture(scope="session")
def insider(target: Target) -> Identity:
    """Return an identity with all the scopes that any identity has: on a read-only target, one that reads."""
    return target.insider


@pytest.fixture(scope="session")
def witness(target: Target) -> Caller:
    """Return the source for what MLflow holds: MLflow itself or, if it cannot be reached, an identity that can see everything."""
    return target.truth


@pytest.fixture
def as_reader(route: Route, can_read: Identity) -> MlflowClient:
    """Return an MLflow client of each identity that may read, on each route."""
    return client_of(Caller(route, can_read))


@pytest.fixture
def as_writer(route: Route, can_write: Identity) -> MlflowClient:
    """Return an MLflow client of each identity that may write, on each route."""
    return client_of(Caller(route, can_write))


@pytest.fixture
def client(route: Route, control: Identity) -> MlflowClient:
    """Return an MLflow client of an identity that is allowed everything, on each route."""
    return client_of(Caller(route, control))


@pytest.fixture
def signed_in_client(route: Route, control: Identity) -> Iterator[MlflowClient]:
    """Sign in an identity that is allowed everything, on each route, for the whole test: its client, and MLflow's fluent API."""
    with signed_in(route, control) as client:
        yield client


@pytest.fixture
def signed_in_writer(route: Route, can_write: Identity) -> Iterator[MlflowClient]:
    """Sign in each identity that may write, on each route, for the whole test: its client, and MLflow's fluent API."""
    with signed_in(route, can_write) as client:
        yield client


@pytest.fixture(scope="session")
def truth(witness: Caller) -> MlflowClient:
    """Return an MLflow client that sees what MLflow holds, independently of the route under test."""
    return client_of(witness)


@pytest.fixture
def rest(route: Route, control: Identity) -> Iterator[Rest]:
    """Return an HTTP session of an identity that is allowed everything, on each route."""
    with Rest(route, control) as rest:
        yield rest


@pytest.fixture
def reader_rest(route: Route, can_read: Identity) -> Iterator[Rest]:
    """Return an HTTP session of each identity that may read, on each route."""
    with Rest(route, can_read) as rest:
        yield rest


@pytest.fixture
def writer_rest(route: Route, can_write: Identity) -> Iterator[Rest]:
    """Return an HTTP session of each identity that may write, on each route."""
    with Rest(route, can_write) as rest:
        yield rest


@pytest.fixture
def insider_rest(route: Route, insider: Identity) -> Iterator[Rest]:
    """Return an HTTP session of an identity with all the scopes that any identity has, on each route."""
    with Rest(route, insider) as rest:
        yield rest


@pytest.fixture
def truth_rest(witness: Caller) -> Iterator[Rest]:
    """Return an HTTP session that sees what MLflow holds, independently of the route under test."""
    with Rest(*witness) as rest:
        yield rest


@pytest.fixture
def refused_reader(route: Route, cannot_read: Identity, target: Target) -> Iterator[Refused]:
    """Return each identity that may not read, on each route, and how it must be refused."""
    with Rest(route, cannot_read) as rest:
        yield Refused(rest, target.contract.denial(cannot_read))


@pytest.fixture
def refused_writer(route: Route, cannot_write: Identity, target: Target) -> Iterator[Refused]:
    """Return each identity that may not write, on each route, and how it must be refused."""
    with Rest(route, cannot_write) as rest:
        yield Refused(rest, target.contract.denial(cannot_write))


@pytest.fixture(scope="session")
def mlflow_log(target: Target) -> AccessLog | None:
    """Return MLflow's log, which shows the requests that have reached it, or None if the target is not the lab's own."""
    return AccessLog(target.access_logs) if target.access_logs else None


@pytest.fixture
def measure(request: pytest.FixtureRequest) -> Callable[[str, object], None]:
    """Return a function that adds a measurement to reports. JUnit's reports do not accept pytest's record_property here."""
    return lambda name, value: request.node.user_properties.append((name, value))


@pytest.fixture
def requests_sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the methods of all requests sent to any server, including retries and followed redirects."""
    methods: list[str] = []
    send = HTTPConnection.request

    def noted(connection: HTTPConnection, method: str, *args: Any, **options: Any) -> None:
        methods.append(method)
        send(connection, method, *args, **options)

    monkeypatch.setattr(HTTPConnection, "request", noted)
    return methods


@pytest.fixture
def scratch(witness: Caller, control: Identity, pytestconfig: pytest.Config) -> Iterator[Scratch]:  # noqa: ARG001
    """Hand out names for what a test creates, and remove it afterwards. Where no identity can write, nothing is created."""
    names = Scratch(*witness, pytestconfig.stash[RUN])
    yield names
    names.clean()


@pytest.fixture(scope="module")
def shared_scratch(witness: Caller, control: Identity, pytestconfig: pytest.Config) -> Iterator[Scratch]:  # noqa: ARG001
    """Hand out names for what a module's tests share and do not change, and remove it after the last of them."""
    names = Scratch(*witness, pytestconfig.stash[RUN])
    yield names
    names.clean()


@pytest.fixture(scope="module")
def experiment_id(truth: MlflowClient, shared_scratch: Scratch) -> str:
    """Return the experiment in which a module's tests create runs and models of their own."""
    return truth.create_experiment(shared_scratch.experiment())


@pytest.fixture(scope="session")
def reader(target: Target) -> Identity:
    """Return a read-only identity. A target without scopes has none, and a profile need not name one."""
    readers = [identity for identity in target.who_may("read") if not identity.may("write")]
    if not readers:
        pytest.skip("the target has no identity that can only read")
    return readers[0]


@pytest.fixture(scope="module")
def subject(witness: Caller, truth: MlflowClient, experiment_id: str) -> Subject:
    """Return what the gate protects."""
    canary = f"canary-{uuid.uuid4().hex}"
    truth.set_experiment_tag(experiment_id, "canary", canary)
    run_id = truth.create_run(experiment_id, tags={"canary": canary}).info.run_id
    return Subject(experiment_id, run_id, canary, witness)


@pytest.fixture
def gate(route: Route, control: Identity, mlflow_log: AccessLog | None, subject: Subject, target: Target) -> Gate:
    """Return the gate on a route, after it has let in an identity that is allowed to pass."""
    skip_if_decided_otherwise(target, None, "GET", READ)
    for identity in target.who_may_not("write"):
        skip_if_decided_otherwise(target, identity, "POST", WRITE)
    gate = Gate(route, control, subject, Marks(mlflow_log))
    gate.assert_open()
    return gate


@pytest.fixture
def run(truth: MlflowClient, experiment_id: str) -> RunInfo:
    """Return an empty run for the test."""
    return truth.create_run(experiment_id).info


@pytest.fixture
def wire(route: Route, control: Identity) -> Iterator[Wire]:
    """Return a connection of an identity that is allowed everything, on each route."""
    with Wire(route, control) as wire:
        yield wire


@pytest.fixture
def truth_wire(witness: Caller) -> Iterator[Wire]:
    """Return a connection that sees what MLflow holds, independently of the route under test."""
    with Wire(*witness) as wire:
        yield wire


@pytest.fixture
def direct_wire(target: Target) -> Iterator[Wire]:
    """Return a connection to MLflow itself, or skip if it cannot be reached: only MLflow knows its own answers."""
    if target.direct is None:
        pytest.skip("MLflow itself cannot be reached, which alone can say what it answers")
    with Wire(target.direct) as wire:
        yield wire


@pytest.fixture
def new_run(truth_wire: Wire, experiment_id: str) -> Callable[[], Run]:
    """Return a function that creates a new run with each call."""
    create = post("runs/create", {"experiment_id": experiment_id})
    return lambda: Run(done(truth_wire, create).json()["run"]["info"]["run_id"], experiment_id)


@pytest.fixture
def place(new_run: Callable[[], Run]) -> str:
    """Return the path of the artifacts of a run created for the test."""
    return new_run().artifacts
