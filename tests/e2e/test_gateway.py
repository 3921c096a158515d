"""The model gateway: its configuration and its endpoints. Nothing here makes MLflow call a provider."""

from __future__ import annotations

import pytest

from mlflow_proxy_e2e.rest import Rest

pytestmark = pytest.mark.capability("gateway")

API = "/api/3.0/mlflow/gateway"
PAGES = "/ajax-api/3.0/mlflow/gateway"  # what MLflow's pages call, with no twin under /api
pages = pytest.mark.capability("ui")

# The models of a provider are not among these: MLflow downloads them from the internet.
READS = [
    pytest.param(f"{API}/budgets/list", id="budgets"),
    pytest.param(f"{API}/endpoints/list", id="endpoints"),
    pytest.param(f"{API}/guardrails/list", id="guardrails"),
    pytest.param(f"{API}/model-definitions/list", id="model-definitions"),
    pytest.param(f"{API}/secrets/list", id="secrets"),
    pytest.param("/gateway/mlflow/v1/models", id="models-as-openai-lists-them"),
    pytest.param(f"{PAGES}/provider-config?provider=openai", id="provider", marks=pages),
    pytest.param(f"{PAGES}/secrets/config", id="encryption", marks=pages),
    pytest.param(f"{PAGES}/supported-providers", id="providers", marks=pages),
]


@pytest.mark.parametrize("path", READS)
def test_look_up(path: str, insider_rest: Rest, truth_rest: Rest) -> None:
    """Identities that may read see of the gateway what MLflow itself shows."""
    expected, answer = truth_rest.get(path), insider_rest.get(path)

    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == expected.headers["Content-Type"]
    assert answer.content == expected.content


@pages
def test_look_up_one_provider(insider_rest: Rest) -> None:
    """A provider's configuration is that of the provider in the query."""
    names = insider_rest.get(f"{PAGES}/supported-providers").json()["providers"]
    modes = insider_rest.get(f"{PAGES}/provider-config", params={"provider": "openai"}).json()["auth_modes"]

    assert {"anthropic", "openai"} <= set(names)
    assert [field["name"] for field in modes[0]["secret_fields"]] == ["api_key"]


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("endpoints/get?endpoint_id=none", id="endpoint"),
        pytest.param("model-definitions/get?model_definition_id=none", id="model-definition"),
    ],
)
def test_unknown_is_answered_by_mlflow(path: str, insider_rest: Rest, truth_rest: Rest) -> None:
    """MLflow itself answers that the gateway does not have something."""
    expected, answer = truth_rest.get(f"{API}/{path}"), insider_rest.get(f"{API}/{path}")

    assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert answer.content == expected.content
