"""Each write happens once: only clients retry, and no hop does."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
from mlflow import MlflowClient
from urllib3.connection import HTTPConnection
from urllib3.response import HTTPResponse

from mlflow_proxy_e2e.access_log import AccessLog
from mlflow_proxy_e2e.checks.fidelity import post
from mlflow_proxy_e2e.clients import MLFLOW_DEFAULTS, signed_in
from mlflow_proxy_e2e.target import Caller, Identity, Route
from mlflow_proxy_e2e.wire import Wire, describe

TAG = "call"


LoseAnswer = Callable[[], None]
CreatedRuns = Callable[[str], int]


@pytest.fixture
def caller(route: Route, control: Identity) -> Caller:
    """Return an identity that is allowed everything, on each route."""
    return Caller(route, control)


@pytest.fixture
def lose_answer(monkeypatch: pytest.MonkeyPatch) -> LoseAnswer:
    """Return a function that makes the next answer get lost on its way to this process, with its connection."""
    receive = HTTPConnection.getresponse

    def receive_and_lose(connection: HTTPConnection) -> HTTPResponse:
        monkeypatch.setattr(HTTPConnection, "getresponse", receive)
        receive(connection).read()  # the call has been carried out
        raise ConnectionResetError("the network has lost the connection")

    return lambda: monkeypatch.setattr(HTTPConnection, "getresponse", receive_and_lose)


@pytest.fixture
def created_runs(truth: MlflowClient, experiment_id: str) -> CreatedRuns:
    """Return a function that counts the runs created with a name in their tag."""
    return lambda name: len(truth.search_runs([experiment_id], f"tags.{TAG} = '{name}'"))


def test_lost_answer(
    caller: Caller, experiment_id: str, lose_answer: LoseAnswer, requests_sent: list[str], created_runs: CreatedRuns
) -> None:
    """A call creates one run. By default, MLflow's client repeats a call whose answer is lost, which creates another: one for
    each request that the client has sent."""
    name = uuid.uuid4().hex
    with signed_in(*caller) as client:  # without retries: a call that fails would be reported after four minutes
        requests_sent.clear()
        client.create_run(experiment_id, tags={TAG: name})
        assert len(requests_sent) == 1
    assert created_runs(name) == 1

    with signed_in(*caller, patience=MLFLOW_DEFAULTS) as client:
        lose_answer()
        requests_sent.clear()
        client.create_run(experiment_id, tags={TAG: f"{name}-lost"})
        assert len(requests_sent) == 2

    assert created_runs(f"{name}-lost") == 2


def test_failed_write_is_forwarded_once(wire: Wire, direct_wire: Wire, mlflow_log: AccessLog | None) -> None:
    """A write that MLflow answers with an error reaches it once: no hop knows what it did before it failed."""
    if mlflow_log is None:
        pytest.skip("MLflow's log, which alone can say how often a call has reached it, cannot be read")
    failing = post("experiments/create", [])  # not an object: MLflow does not check before it uses it as one
    assert direct_wire.ask(failing).status == 500
    mark = uuid.uuid4().hex

    answer = wire.ask(failing.marked(mark))

    assert answer.status == 500, describe(wire, failing, answer, 500)
    mlflow_log.await_line_with(mark)
    assert len(mlflow_log.lines_with(mark)) == 1
