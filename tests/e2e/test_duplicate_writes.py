"""Writes that are made once are there once: whatever is sent again is sent again by the client, and by no hop."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
from urllib3.connection import HTTPConnection
from urllib3.response import HTTPResponse

from mlflow_proxy_e2e.access_log import AccessLog
from mlflow_proxy_e2e.checks.fidelity import post
from mlflow_proxy_e2e.clients import MLFLOW_DEFAULTS, signed_in
from mlflow_proxy_e2e.target import Caller, Identity, Route
from mlflow_proxy_e2e.wire import Wire, describe

TAG = "call"


LoseAnswer = Callable[[], None]


@pytest.fixture
def lose_answer(monkeypatch: pytest.MonkeyPatch) -> LoseAnswer:
    """Return a function that has the next answer lost on its way to this process, and its connection with it."""
    receive = HTTPConnection.getresponse

    def receive_and_lose(connection: HTTPConnection) -> HTTPResponse:
        monkeypatch.setattr(HTTPConnection, "getresponse", receive)
        receive(connection).read()  # what was asked for has been done
        raise ConnectionResetError("the network has lost the connection")

    return lambda: monkeypatch.setattr(HTTPConnection, "getresponse", receive_and_lose)


def test_lost_answer(
    route: Route,
    control: Identity,
    experiment_id: str,
    lose_answer: LoseAnswer,
    requests_sent: list[str],
    witness: Caller,
) -> None:
    """A call makes one run. One whose answer is lost is sent again by MLflow's client as it is set up by default, and makes one run
    more: as many as the client has sent requests."""
    name = uuid.uuid4().hex
    with signed_in(route, control) as client:  # without patience: it would be four minutes until a call that fails is told of
        requests_sent.clear()
        client.create_run(experiment_id, tags={TAG: name})
        assert len(requests_sent) == 1
    assert runs_of(name, experiment_id, witness) == 1

    with signed_in(route, control, patience=MLFLOW_DEFAULTS) as client:
        lose_answer()
        requests_sent.clear()
        client.create_run(experiment_id, tags={TAG: f"{name}-lost"})
        assert len(requests_sent) == 2

    assert runs_of(f"{name}-lost", experiment_id, witness) == 2


def runs_of(call: str, experiment_id: str, witness: Caller) -> int:
    """Return how many runs a call has made."""
    with signed_in(*witness) as mlflow_itself:
        return len(mlflow_itself.search_runs([experiment_id], f"tags.{TAG} = '{call}'"))


def test_failed_write_is_forwarded_once(route: Route, control: Identity, mlflow_itself: Wire, mlflow_log: AccessLog | None) -> None:
    """A write that MLflow answers with an error of its own reaches it once: no hop knows what it did before it failed."""
    if mlflow_log is None:
        pytest.skip("MLflow's log, which alone can say how often a call has reached it, cannot be read")
    failing = post("experiments/create", [])  # no object: MLflow does not look before it takes it for one
    assert mlflow_itself.ask(failing).status == 500
    mark = uuid.uuid4().hex

    with Wire(route, control) as wire:
        answer = wire.ask(failing.marked(mark))

    assert answer.status == 500, describe(wire, failing, answer, 500)
    mlflow_log.await_line_with(mark)
    assert len(mlflow_log.lines_with(mark)) == 1
