"""Webhooks: the URLs that MLflow notifies of changes in the registry. None of these tests makes MLflow call one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities.webhook import Webhook, WebhookStatus
from mlflow.exceptions import MlflowException

from mlflow_proxy_e2e.rest import Rest
from mlflow_proxy_e2e.scratch import Scratch

pytestmark = pytest.mark.capability("webhooks")

API = "/api/2.0/mlflow/webhooks"
UNKNOWN_ID = "00000000-0000-0000-0000-000000000000"
# MLflow accepts public addresses only. These look public, and nothing can be sent there: TCP has neither multicast nor that port.
URL = "https://239.255.0.1:65536/hooks?team=fraud&channel=%23models"
OTHER_URL = "https://239.255.0.2:65536/other"


@pytest.fixture
def webhook(truth: MlflowClient, scratch: Scratch) -> Webhook:
    """Return a webhook of the test's own, disabled."""
    return truth.create_webhook(
        scratch.webhook(), URL, ["model_version.created", "registered_model.created"], "For the chat.", status="DISABLED"
    )


def test_create_webhook(client: MlflowClient, truth: MlflowClient, scratch: Scratch) -> None:
    """A webhook created through a route exists, with its URL, its events and all other properties."""
    name = scratch.webhook()

    webhook_id = client.create_webhook(name, URL, ["model_version_alias.created"], "Für Zoë.", status="DISABLED").webhook_id

    created = truth.get_webhook(webhook_id)
    assert (created.name, created.url, created.description) == (name, URL, "Für Zoë.")
    assert (_events(created), created.status) == ({"model_version_alias.created"}, WebhookStatus.DISABLED)


def test_get_webhook(rest: Rest, truth_rest: Rest, webhook: Webhook) -> None:
    """A webhook is read exactly as MLflow itself returns it, byte for byte."""
    path = f"{API}/{webhook.webhook_id}"

    expected, answer = truth_rest.get(path), rest.get(path)

    assert answer.status_code == 200
    assert answer.json()["webhook"]["url"] == URL
    assert answer.content == expected.content


def test_list_webhooks(client: MlflowClient, webhook: Webhook) -> None:
    """A webhook is listed once, unchanged."""
    listed = client.list_webhooks(max_results=1000)

    assert [vars(other) for other in listed if other.name == webhook.name] == [vars(webhook)]


def test_page_webhooks(client: MlflowClient, truth: MlflowClient, webhook: Webhook, scratch: Scratch) -> None:
    """A page has no more webhooks than requested, newest first, and a token for the next page."""
    newer = truth.create_webhook(scratch.webhook(), OTHER_URL, ["budget_policy.exceeded"], status="DISABLED")

    page = client.list_webhooks(max_results=1)

    assert len(page) == 1
    assert page[0].creation_timestamp >= newer.creation_timestamp >= webhook.creation_timestamp  # others may create some, too
    assert page.token


def test_update_webhook(client: MlflowClient, truth: MlflowClient, webhook: Webhook, scratch: Scratch) -> None:
    """One call changes a webhook's name, URL, events and status, and leaves its description."""
    name = scratch.webhook()

    client.update_webhook(webhook.webhook_id, name, url=OTHER_URL, events=["budget_policy.exceeded"], status="ACTIVE")

    updated = truth.get_webhook(webhook.webhook_id)
    assert (updated.name, updated.url, updated.description) == (name, OTHER_URL, webhook.description)
    assert (_events(updated), updated.status) == ({"budget_policy.exceeded"}, WebhookStatus.ACTIVE)


def test_delete_webhook(client: MlflowClient, truth: MlflowClient, webhook: Webhook) -> None:
    """A deleted webhook is neither found nor listed any more."""
    client.delete_webhook(webhook.webhook_id)

    with pytest.raises(MlflowException) as unknown:
        truth.get_webhook(webhook.webhook_id)
    assert unknown.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    assert _ids_of(truth, webhook.name) == []


def test_try_webhook(client: MlflowClient, webhook: Webhook) -> None:
    """A test of a webhook that cannot be reached succeeds as a call, and its result says why the webhook failed."""
    result = client.test_webhook(webhook.webhook_id, "registered_model.created")

    assert (result.success, result.response_status) == (False, None)
    assert result.error_message
    assert f"Failed to parse: {URL}" in result.error_message


EVENT = {"entity": "REGISTERED_MODEL", "action": "CREATED"}


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"url": "http://239.255.0.1:65536/"}, id="http"),
        pytest.param({"url": "https://127.0.0.1:65536/"}, id="loopback"),
        pytest.param({"events": [{"entity": "REGISTERED_MODEL", "action": "SET"}]}, id="no-such-event"),
        pytest.param({"name": "{name} and more"}, id="name-with-spaces"),
    ],
)
def test_mistake_is_answered_by_mlflow(
    rest: Rest, truth: MlflowClient, truth_rest: Rest, scratch: Scratch, wrong: Mapping[str, Any]
) -> None:
    """An invalid webhook is refused with MLflow's own error, byte for byte, and is not created."""
    name = scratch.webhook()
    sent = {"name": name, "url": URL, "events": [EVENT], "status": "DISABLED", **wrong}
    sent["name"] = sent["name"].format(name=name)

    expected, answer = truth_rest.post(API, json=sent), rest.post(API, json=sent)

    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert answer.content == expected.content
    assert _ids_of(truth, sent["name"]) == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("GET", "", id="get"),
        pytest.param("PATCH", "", id="update"),
        pytest.param("DELETE", "", id="delete"),
        pytest.param("POST", "/test", id="try"),
    ],
)
def test_unknown_webhook_is_answered_by_mlflow(rest: Rest, method: str, path: str) -> None:
    """A call for an unknown webhook gets MLflow's own 404, which names the webhook."""
    answer = rest.request(method, f"{API}/{UNKNOWN_ID}{path}", json=None if method == "GET" else {})

    assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert UNKNOWN_ID in answer.json()["message"]


def _events(webhook: Webhook) -> set[str]:
    return {str(event) for event in webhook.events}


def _ids_of(truth: MlflowClient, name: str) -> list[str]:
    """Return the ids of the webhooks of that name."""
    return [webhook.webhook_id for webhook in truth.list_webhooks(max_results=1000) if webhook.name == name]
