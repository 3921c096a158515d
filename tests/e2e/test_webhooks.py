"""Webhooks: whom MLflow is to tell about changes in the registry. None of these tests has MLflow call anybody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from mlflow.entities.webhook import Webhook, WebhookStatus
from mlflow.exceptions import MlflowException

from mlflow_proxy_e2e.clients import Rest, signed_in
from mlflow_proxy_e2e.scratch import Scratch
from mlflow_proxy_e2e.target import Caller, Identity, Route

pytestmark = pytest.mark.capability("webhooks")

API = "/api/2.0/mlflow/webhooks"
UNKNOWN_ID = "00000000-0000-0000-0000-000000000000"
# MLflow takes public addresses only. These pass for such, and nothing can be sent there: TCP has no multicast, and no such port.
URL = "https://239.255.0.1:65536/hooks?team=fraud&channel=%23models"
OTHER_URL = "https://239.255.0.2:65536/other"


@pytest.fixture
def webhook(witness: Caller, scratch: Scratch) -> Webhook:
    """Return a webhook of the test's own, which is switched off."""
    with signed_in(*witness) as mlflow_itself:
        return mlflow_itself.create_webhook(
            scratch.webhook(), URL, ["model_version.created", "registered_model.created"], "For the chat.", status="DISABLED"
        )


def test_create_webhook(route: Route, control: Identity, witness: Caller, scratch: Scratch) -> None:
    """A webhook that is created through a route is there, with its address, its events and all else that was given."""
    name = scratch.webhook()

    with signed_in(route, control) as client:
        webhook_id = client.create_webhook(name, URL, ["model_version_alias.created"], "Für Zoë.", status="DISABLED").webhook_id

    created = _held(witness, webhook_id)
    assert (created.name, created.url, created.description) == (name, URL, "Für Zoë.")
    assert (_events(created), created.status) == ({"model_version_alias.created"}, WebhookStatus.DISABLED)


def test_get_webhook(route: Route, control: Identity, witness: Caller, webhook: Webhook) -> None:
    """Whoever may read is told of a webhook what MLflow itself tells."""
    path = f"{API}/{webhook.webhook_id}"

    with Rest(*witness) as mlflow_itself, Rest(route, control) as rest:
        expected, answer = mlflow_itself.get(path), rest.get(path)

    assert answer.status_code == 200
    assert answer.json()["webhook"]["url"] == URL
    assert answer.content == expected.content


def test_list_webhooks(route: Route, control: Identity, webhook: Webhook) -> None:
    """A webhook is among those that are listed, once, as it is."""
    with signed_in(route, control) as client:
        listed = client.list_webhooks(max_results=1000)

    assert [vars(other) for other in listed if other.name == webhook.name] == [vars(webhook)]


def test_page_webhooks(route: Route, control: Identity, witness: Caller, webhook: Webhook, scratch: Scratch) -> None:
    """A page has no more webhooks than were asked for, the newest first, and says where the next one begins."""
    with signed_in(*witness) as mlflow_itself:
        newer = mlflow_itself.create_webhook(scratch.webhook(), OTHER_URL, ["budget_policy.exceeded"], status="DISABLED")

    with signed_in(route, control) as client:
        page = client.list_webhooks(max_results=1)

    assert len(page) == 1
    assert page[0].creation_timestamp >= newer.creation_timestamp >= webhook.creation_timestamp  # others may make some, too
    assert page.token


def test_update_webhook(route: Route, control: Identity, witness: Caller, webhook: Webhook, scratch: Scratch) -> None:
    """A webhook is given another name, address, set of events and status in one call, and keeps its description."""
    name = scratch.webhook()

    with signed_in(route, control) as client:
        client.update_webhook(webhook.webhook_id, name, url=OTHER_URL, events=["budget_policy.exceeded"], status="ACTIVE")

    updated = _held(witness, webhook.webhook_id)
    assert (updated.name, updated.url, updated.description) == (name, OTHER_URL, webhook.description)
    assert (_events(updated), updated.status) == ({"budget_policy.exceeded"}, WebhookStatus.ACTIVE)


def test_delete_webhook(route: Route, control: Identity, witness: Caller, webhook: Webhook) -> None:
    """A webhook that is deleted is neither found nor listed any more."""
    with signed_in(route, control) as client:
        client.delete_webhook(webhook.webhook_id)

    with pytest.raises(MlflowException) as unknown:
        _held(witness, webhook.webhook_id)
    assert unknown.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    assert _named(witness, webhook.name) == []


def test_try_webhook(route: Route, control: Identity, webhook: Webhook) -> None:
    """Who has MLflow try a webhook is told why that failed: the call succeeds."""
    with signed_in(route, control) as client:
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
    route: Route, control: Identity, witness: Caller, scratch: Scratch, wrong: Mapping[str, Any]
) -> None:
    """A webhook that MLflow does not take is refused with MLflow's own error code and reason, and is not there."""
    name = scratch.webhook()
    sent = {"name": name, "url": URL, "events": [EVENT], "status": "DISABLED", **wrong}
    sent["name"] = sent["name"].format(name=name)

    with Rest(*witness) as mlflow_itself, Rest(route, control) as rest:
        expected, answer = mlflow_itself.post(API, json=sent), rest.post(API, json=sent)

    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert answer.content == expected.content
    assert _named(witness, sent["name"]) == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("GET", "", id="get"),
        pytest.param("PATCH", "", id="update"),
        pytest.param("DELETE", "", id="delete"),
        pytest.param("POST", "/test", id="try"),
    ],
)
def test_unknown_webhook_is_answered_by_mlflow(route: Route, control: Identity, method: str, path: str) -> None:
    """A call about a webhook that there is not is answered with MLflow's own 404, which names that webhook."""
    with Rest(route, control) as rest:
        answer = rest.request(method, f"{API}/{UNKNOWN_ID}{path}", json=None if method == "GET" else {})

    assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert UNKNOWN_ID in answer.json()["message"]


def _events(webhook: Webhook) -> set[str]:
    return {str(event) for event in webhook.events}


def _held(witness: Caller, webhook_id: str) -> Webhook:
    with signed_in(*witness) as mlflow_itself:
        return mlflow_itself.get_webhook(webhook_id)


def _named(witness: Caller, name: str) -> list[str]:
    """Return the ids of the webhooks of that name."""
    with signed_in(*witness) as mlflow_itself:
        return [webhook.webhook_id for webhook in mlflow_itself.list_webhooks(max_results=1000) if webhook.name == name]
