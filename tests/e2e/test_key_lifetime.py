"""Keys that are revoked, expire or reach their limit while in use: only acknowledged calls have taken effect."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from mlflow import MlflowClient
from mlflow.entities import RunInfo, RunStatus
from mlflow.exceptions import MlflowException
from urllib3.util import Retry

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.checks.denials import assert_denied, assert_raised
from mlflow_proxy_e2e.checks.fidelity import get, post
from mlflow_proxy_e2e.clients import MLFLOW_DEFAULTS, client_of, signed_in
from mlflow_proxy_e2e.keys import Keys
from mlflow_proxy_e2e.report.summary import EXPIRED, REVOKED
from mlflow_proxy_e2e.rest import Rest
from mlflow_proxy_e2e.stash import ISSUED, RUN
from mlflow_proxy_e2e.target import Caller, Contract, Denial, Identity, Refusal, Route, Scope, Target, key_headers
from mlflow_proxy_e2e.waiting import wait_until
from mlflow_proxy_e2e.wire import Request, Wire

pytestmark = pytest.mark.capability("key-lifetime")

READ: tuple[Scope, ...] = ("read",)
READ_WRITE: tuple[Scope, ...] = ("read", "write")
API = "/api/2.0/mlflow"
METRIC = "loss"
STEPS = 3  # logged before anything happens
IN_A_ROW = 10  # refusals, until a key counts as refused: one of two proxies may still let it in
HOURLY = 6  # calls, for a key that is limited
OUTLIVES = 3  # times what a test waits for: keys that a killed run leaves behind expire soon


@dataclass(frozen=True)
class Holder:
    """The holder of a key that was issued for a test, on a target with a contract."""

    identity: Identity
    contract: Contract
    revoke: Callable[[], None]

    def denial(self, refused: Refusal) -> Denial:
        """Return how the holder is refused once the key is refused for that reason."""
        return self.contract.denial(replace(self.identity, refused=refused))

    def wait_until_refused(self, is_refused: Callable[[], bool]) -> None:
        """Wait for a revoked key to be refused, for no longer than the contract allows."""
        wait_until(is_refused, self.contract.revocation_seconds, "a revoked key is to be refused")


IssueKey = Callable[..., Holder]
Measure = Callable[[str, object], None]


@pytest.fixture
def issue_key(target: Target, pytestconfig: pytest.Config) -> Iterator[IssueKey]:
    """Return a function that issues a key for the test: see ``Keys.issue``. All its keys are revoked afterwards."""
    assert target.keys, "a target with the capability 'key-lifetime' says who issues keys"
    keys = Keys(target.keys)
    beginning, numbers = pytestconfig.stash[RUN].new_names(), itertools.count(1)
    life = timedelta(seconds=OUTLIVES * (timeouts.WHOLE_ANSWER + target.contract.revocation_seconds))
    with ExitStack() as afterwards:

        def issue(scopes: tuple[Scope, ...], *, user: str = "", expires_at: datetime | None = None, **options: Any) -> Holder:
            name = user or f"{beginning}-{next(numbers)}"
            key = keys.issue(name, scopes, expires_at=expires_at or datetime.now(timezone.utc) + life, **options)
            pytestconfig.stash[ISSUED].append(key.secret)
            afterwards.callback(keys.revoke, key.key_id)
            return Holder(Identity(name, frozenset(scopes), key=key.secret), target.contract, lambda: keys.revoke(key.key_id))

        yield issue


@dataclass
class Training:
    """A run that logs step after step, as trainings do."""

    client: MlflowClient
    truth: MlflowClient
    run_id: str
    acknowledged: int = 0  # steps, from the first on
    refusal: MlflowException | None = None

    def log(self) -> bool:
        """Log the next step, and return whether it was refused."""
        try:
            self.client.log_metric(self.run_id, METRIC, self.acknowledged, step=self.acknowledged)
        except MlflowException as refusal:
            self.refusal = refusal
            return True
        self.acknowledged += 1
        return False

    def assert_refused(self, denial: Denial) -> None:
        """Assert that the client raised that refusal, and that the run has exactly the steps that were acknowledged."""
        assert self.refusal
        assert_raised(self.refusal, denial)
        assert self.truth.get_run(self.run_id).info.status == RunStatus.to_string(RunStatus.RUNNING)
        history = self.truth.get_metric_history(self.run_id, METRIC)
        assert sorted(metric.step for metric in history) == list(range(self.acknowledged))

    def assert_goes_on(self, client: MlflowClient) -> None:
        """Assert that a client with another key can log the next step and end the run."""
        step = self.acknowledged
        assert not replace(self, client=client).log()
        client.set_terminated(self.run_id)
        run = self.truth.get_run(self.run_id)
        assert run.info.status == RunStatus.to_string(RunStatus.FINISHED)
        assert run.data.metrics == {METRIC: step}


StartTraining = Callable[[Holder], Training]


@pytest.fixture
def start_training(route: Route, truth: MlflowClient, run: RunInfo) -> StartTraining:
    """Return a function that starts a training with the key of a holder, on each route."""
    return lambda holder: Training(client_of(Caller(route, holder.identity)), truth, run.run_id)


@dataclass
class Reads:
    """One read, repeated with one key."""

    caller: Rest
    path: str
    on_new_connections: bool
    answers: list[requests.Response] = field(default_factory=list)
    refused_since: float = 0.0

    def is_refused(self) -> bool:
        """Tell whether it is refused several times in a row, from now on."""
        self.refused_since = time.monotonic()
        return all(self.once().status_code != requests.codes.ok for _ in range(IN_A_ROW))

    def once(self) -> requests.Response:
        """Make it once."""
        if self.on_new_connections:
            self.caller.close()
        self.answers.append(self.caller.get(self.path))
        return self.answers[-1]


@pytest.mark.parametrize("connection", ["kept", "new"])
def test_revocation(route: Route, connection: str, issue_key: IssueKey, experiment_id: str, measure: Measure) -> None:
    """A valid key is refused soon after it was revoked, on the connection that it has used and on new ones."""
    holder = issue_key(READ)
    with Rest(route, holder.identity) as caller:
        reads = Reads(caller, f"{API}/experiments/get?experiment_id={experiment_id}", connection == "new")
        assert reads.once().status_code == 200

        holder.revoke()
        began = time.monotonic()
        holder.wait_until_refused(reads.is_refused)

    measure(REVOKED, round(reads.refused_since - began, 3))
    assert_denied(reads.answers[-1], holder.denial("unauthenticated"))


def test_revocation_in_mid_run(issue_key: IssueKey, start_training: StartTraining, client: MlflowClient) -> None:
    """When its key is revoked, a training run is refused: the run has exactly the acknowledged steps, and continues
    with another key."""
    holder = issue_key(READ_WRITE)
    training = start_training(holder)
    assert [training.log() for _ in range(STEPS)] == [False] * STEPS

    holder.revoke()
    holder.wait_until_refused(training.log)

    training.assert_refused(holder.denial("unauthenticated"))
    training.assert_goes_on(client)


def test_expiry_in_mid_run(issue_key: IssueKey, start_training: StartTraining, client: MlflowClient, measure: Measure) -> None:
    """The key of a training run is refused when it expires: not earlier, and not much later."""
    expiry = datetime.now(timezone.utc) + timedelta(seconds=timeouts.KEY_LIFE)
    holder = issue_key(READ_WRITE, expires_at=expiry)
    latest = timeouts.KEY_LIFE + holder.contract.revocation_seconds + timeouts.CLOCK
    training = start_training(holder)
    assert not training.log(), "the key is refused before it expires"

    wait_until(training.log, latest, "a key that has expired is to be refused")

    seconds = (datetime.now(timezone.utc) - expiry).total_seconds()
    measure(EXPIRED, round(seconds, 3))
    assert seconds > -timeouts.CLOCK, f"the key is refused {-seconds:.1f} s before it expires"
    training.assert_refused(holder.denial("unauthenticated"))
    training.assert_goes_on(client)


def test_keys_of_one_user(route: Route, issue_key: IssueKey, run: RunInfo, target: Target) -> None:
    """Two keys of one user are independent: on one connection, each call is judged by its own; revoking one leaves the other."""
    writer = issue_key(READ_WRITE)
    user = writer.identity.name
    reader = issue_key(READ, user=user)
    read = get(f"experiments/get?experiment_id={run.experiment_id}")
    write = post("runs/set-tag", {"run_id": run.run_id, "key": "by", "value": user})
    forbidden, unauthenticated = target.contract.forbidden, target.contract.unauthenticated
    with Wire(route) as wire:

        def status(holder: Holder, request: Request) -> int:
            keyed = replace(request, headers=(*key_headers(holder.identity).items(), *request.headers))
            return wire.ask(keyed).status

        turns = [(writer, write), (reader, write), (writer, write), (reader, read), (writer, read), (reader, write)]
        assert [status(*turn) for turn in turns] == [200, forbidden, 200, 200, 200, forbidden]

        writer.revoke()
        writer.wait_until_refused(lambda: status(writer, write) == unauthenticated)

        assert [status(*turn) for turn in turns[:4]] == [unauthenticated, forbidden, unauthenticated, 200]


@pytest.mark.capability("rate-limit")
def test_rate_limit(issue_key: IssueKey, run: RunInfo, target: Target, control: Identity, truth: MlflowClient) -> None:
    """Exactly as many of a key's calls pass as its limit permits, over all routes together; refusals then say when to retry."""
    holder = issue_key(READ_WRITE, rate_limit_per_hour=HOURLY)
    numbers = itertools.count()

    def log(caller: Rest) -> requests.Response:
        metric = {"run_id": run.run_id, "key": METRIC, "value": 1, "timestamp": 1, "step": next(numbers)}
        return caller.post(f"{API}/runs/log-metric", json=metric)

    with ExitStack() as connections:
        callers = [connections.enter_context(Rest(route, holder.identity)) for route in target.routes]
        permitted = [log(caller).status_code for caller in itertools.islice(itertools.cycle(callers), HOURLY)]
        refused = [log(caller) for caller in callers]
        others = [connections.enter_context(Rest(route, control)) for route in target.routes]
        assert [caller.get(f"{API}/runs/get?run_id={run.run_id}").status_code for caller in others] == [200] * len(others)

    assert permitted == [200] * HOURLY
    for answer in refused:
        assert_denied(answer, holder.denial("throttled"))
        assert 0 < seconds_to_wait(answer) <= timeouts.RETRY_AFTER
    assert {metric.step for metric in truth.get_metric_history(run.run_id, METRIC)} == set(range(HOURLY))


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the seconds that HTTP clients wait before they retry. Here they do not really wait: it may be an hour."""
    seconds: list[float] = []
    monkeypatch.setattr("urllib3.util.retry.time", SimpleNamespace(sleep=seconds.append, time=time.time))
    return seconds


@pytest.mark.capability("rate-limit")
def test_client_waits_as_told(
    route: Route, issue_key: IssueKey, experiment_id: str, waits: list[float], requests_sent: list[str]
) -> None:
    """MLflow's client, which retries when a key is over its limit, waits each time as long as ``Retry-After`` says."""
    caller = Caller(route, issue_key(READ, rate_limit_per_hour=1).identity)
    client_of(caller).get_experiment(experiment_id)

    with signed_in(*caller, patience=MLFLOW_DEFAULTS) as client:
        before = retry_after(caller, experiment_id)
        requests_sent.clear()
        with pytest.raises(MlflowException):
            client.get_experiment(experiment_id)
        sent = len(requests_sent)
        after = retry_after(caller, experiment_id)

    assert len(waits) == sent - 1 > 0
    assert 0 < after <= min(waits) <= max(waits) <= before <= timeouts.RETRY_AFTER


def retry_after(caller: Caller, experiment_id: str) -> float:
    """Return how long a caller that is over its limit must wait."""
    with Rest(*caller) as rest:
        return seconds_to_wait(rest.get(f"{API}/experiments/get?experiment_id={experiment_id}"))


def seconds_to_wait(answer: requests.Response) -> float:
    """Return how long an answer makes clients wait, as urllib3 reads it."""
    return Retry().parse_retry_after(answer.headers["Retry-After"])
