"""A server without workspaces: who asks for one is told so by MLflow itself, and nothing is done for them elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from mlflow_proxy_e2e.checks.denials import assert_denied
from mlflow_proxy_e2e.clients import Rest, signed_in
from mlflow_proxy_e2e.scratch import Scratch
from mlflow_proxy_e2e.target import Caller, Identity, Route, Target

pytestmark = pytest.mark.capability("single-workspace")

API = "/api/3.0/mlflow/workspaces"
CREATE = "/api/2.0/mlflow/experiments/create"
WITHOUT = "disabled because the server is running without workspaces support"
READS = [
    pytest.param("GET", API, None, id="list"),
    pytest.param("GET", f"{API}/default", None, id="get"),
]
# A server with workspaces would refuse these, too: the name is taken for good, and there is no workspace of the other.
TAKEN = {"name": "default"}
WRITES = [
    pytest.param("POST", API, TAKEN, id="create"),
    pytest.param("PATCH", f"{API}/e2e-unknown", {"description": "for tests"}, id="update"),
    pytest.param("DELETE", f"{API}/e2e-unknown", None, id="delete"),
]


def test_server_info(route: Route, control: Identity, witness: Caller) -> None:
    """A client is told what the server can do, workspaces not among it, as MLflow itself tells it."""
    path = "/api/3.0/mlflow/server-info"

    with Rest(*witness) as mlflow_itself, Rest(route, control) as rest:
        expected, answer = mlflow_itself.get(path), rest.get(path)

    assert answer.status_code == 200
    assert answer.json()["workspaces_enabled"] is False
    assert answer.content == expected.content


@pytest.mark.parametrize(("method", "path", "body"), READS)
def test_read_is_answered_by_mlflow(
    method: str, path: str, body: dict[str, Any] | None, route: Route, control: Identity, witness: Caller
) -> None:
    """Who looks for workspaces is told by MLflow that it has none, which is not what an outage looks like."""
    _assert_without(witness, Caller(route, control), method, path, body)


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_write_is_answered_by_mlflow(
    method: str, path: str, body: dict[str, Any] | None, route: Route, control: Identity, witness: Caller
) -> None:
    """Who would change workspaces is told the same."""
    _assert_without(witness, Caller(route, control), method, path, body)


def test_client_lists_workspaces(route: Route, control: Identity) -> None:
    """MLflow's client, told not to retry, raises at once: it takes MLflow's 503 for an outage."""
    with signed_in(route, control) as client, pytest.raises(MlflowException, match="too many 503 error responses"):
        client.list_workspaces()


def test_client_in_workspace(
    route: Route, control: Identity, witness: Caller, scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script that is set to a workspace is refused by its own client, which asks the server, and nothing is created."""
    name = scratch.experiment()

    with monkeypatch.context() as environment, signed_in(route, control) as client:
        environment.setenv("MLFLOW_WORKSPACE", "e2e-unknown")
        with pytest.raises(MlflowException, match="e2e-unknown") as refusal:
            client.create_experiment(name)

    assert refusal.value.error_code == "FEATURE_DISABLED"
    with signed_in(*witness) as mlflow_itself:
        assert mlflow_itself.get_experiment_by_name(name) is None


def test_workspace_header(route: Route, control: Identity, witness: Caller, scratch: Scratch) -> None:
    """The header that names a workspace reaches MLflow, which refuses the call for it: it is not done in the default one."""
    name = scratch.experiment()
    sent: dict[str, Any] = {"json": {"name": name}, "headers": {"X-MLFLOW-WORKSPACE": "e2e-unknown"}}

    with Rest(*witness) as mlflow_itself, Rest(route, control) as rest:
        expected, answer = mlflow_itself.post(CREATE, **sent), rest.post(CREATE, **sent)

    assert (answer.status_code, answer.json()["error_code"]) == (500, "FEATURE_DISABLED")
    assert answer.content == expected.content
    with signed_in(*witness) as mlflow_itself:
        assert mlflow_itself.get_experiment_by_name(name) is None


def test_denied_read(route: Route, control: Identity, cannot_read: Identity, target: Target) -> None:
    """Who may not read is not told so much as that there are no workspaces."""
    with Rest(route, control) as permitted, Rest(route, cannot_read) as rest:
        told, answer = permitted.get(API), rest.get(API)

    assert WITHOUT in told.text
    assert_denied(answer, target.contract.denial(cannot_read))


def test_denied_write(route: Route, control: Identity, cannot_write: Identity, target: Target) -> None:
    """Who may not write is refused for that reason, before MLflow is asked for any."""
    with Rest(route, control) as permitted, Rest(route, cannot_write) as rest:
        told, answer = permitted.post(API, json=TAKEN), rest.post(API, json=TAKEN)

    assert WITHOUT in told.text
    assert_denied(answer, target.contract.denial(cannot_write))


def _assert_without(witness: Caller, caller: Caller, method: str, path: str, body: dict[str, Any] | None) -> None:
    """Assert that the caller gets what MLflow itself answers: that it has no workspaces."""
    with Rest(*witness) as mlflow_itself, Rest(*caller) as rest:
        expected, answer = (who.request(method, path, json=body) for who in (mlflow_itself, rest))
    assert answer.status_code == 503
    assert WITHOUT in answer.text
    assert answer.content == expected.content
