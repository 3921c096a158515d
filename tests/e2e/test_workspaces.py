"""A server without workspaces: requests for one get MLflow's own error, and are not carried out in another."""

from __future__ import annotations

from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from requests import Response

from mlflow_proxy_e2e.checks.denials import Refused, assert_denied
from mlflow_proxy_e2e.rest import Rest
from mlflow_proxy_e2e.scratch import Scratch

pytestmark = pytest.mark.capability("single-workspace")

API = "/api/3.0/mlflow/workspaces"
CREATE = "/api/2.0/mlflow/experiments/create"
DISABLED = "disabled because the server is running without workspaces support"
READS = [
    pytest.param("GET", API, None, id="list"),
    pytest.param("GET", f"{API}/default", None, id="get"),
]
# A server with workspaces would refuse these, too: one name is always taken, and no workspace has the other.
TAKEN = {"name": "default"}
WRITES = [
    pytest.param("POST", API, TAKEN, id="create"),
    pytest.param("PATCH", f"{API}/e2e-unknown", {"description": "for tests"}, id="update"),
    pytest.param("DELETE", f"{API}/e2e-unknown", None, id="delete"),
]


def test_server_info(rest: Rest, truth_rest: Rest) -> None:
    """The server's features, without workspaces, are read exactly as MLflow itself returns them."""
    path = "/api/3.0/mlflow/server-info"

    expected, answer = truth_rest.get(path), rest.get(path)

    assert answer.status_code == 200
    assert answer.json()["workspaces_enabled"] is False
    assert answer.content == expected.content


@pytest.mark.parametrize(("method", "path", "body"), READS)
def test_read_is_answered_by_mlflow(method: str, path: str, body: dict[str, Any] | None, rest: Rest, truth_rest: Rest) -> None:
    """A request for workspaces gets MLflow's own answer that it has none, which differs from an outage."""
    expected, answer = truth_rest.request(method, path, json=body), rest.request(method, path, json=body)

    _assert_disabled(answer, expected)


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_write_is_answered_by_mlflow(method: str, path: str, body: dict[str, Any] | None, rest: Rest, truth_rest: Rest) -> None:
    """A change of workspaces gets the same answer."""
    expected, answer = truth_rest.request(method, path, json=body), rest.request(method, path, json=body)

    _assert_disabled(answer, expected)


def test_client_lists_workspaces(client: MlflowClient) -> None:
    """MLflow's client, told not to retry, raises at once: it takes MLflow's 503 for an outage."""
    with pytest.raises(MlflowException, match="too many 503 error responses"):
        client.list_workspaces()


def test_client_in_workspace(client: MlflowClient, truth: MlflowClient, scratch: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script with a workspace set is refused by its own client, which asks the server, and nothing is created."""
    name = scratch.experiment()

    with monkeypatch.context() as environment:
        environment.setenv("MLFLOW_WORKSPACE", "e2e-unknown")
        with pytest.raises(MlflowException, match="e2e-unknown") as refusal:
            client.create_experiment(name)

    assert refusal.value.error_code == "FEATURE_DISABLED"
    assert truth.get_experiment_by_name(name) is None


def test_workspace_header(rest: Rest, truth: MlflowClient, truth_rest: Rest, scratch: Scratch) -> None:
    """The header that names a workspace reaches MLflow, which refuses the call instead of using the default workspace."""
    name = scratch.experiment()
    sent: dict[str, Any] = {"json": {"name": name}, "headers": {"X-MLFLOW-WORKSPACE": "e2e-unknown"}}

    expected, answer = truth_rest.post(CREATE, **sent), rest.post(CREATE, **sent)

    assert expected.json()["error_code"] == "FEATURE_DISABLED"
    assert (answer.status_code, answer.content) == (500, expected.content)
    assert truth.get_experiment_by_name(name) is None


def test_denied_read(rest: Rest, refused_reader: Refused) -> None:
    """A key that may not read does not even learn that there are no workspaces."""
    permitted, refused = rest.get(API), refused_reader.rest.get(API)

    assert DISABLED in permitted.text
    assert_denied(refused, refused_reader.denial)


def test_denied_write(rest: Rest, refused_writer: Refused) -> None:
    """A key that may not write is refused for that reason, before MLflow can give any other."""
    permitted, refused = rest.post(API, json=TAKEN), refused_writer.rest.post(API, json=TAKEN)

    assert DISABLED in permitted.text
    assert_denied(refused, refused_writer.denial)


def _assert_disabled(answer: Response, expected: Response) -> None:
    """Assert that the answer is MLflow's own, saying that it has no workspaces."""
    assert answer.status_code == 503
    assert DISABLED in answer.text
    assert answer.content == expected.content
