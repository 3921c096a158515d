"""Logged models: what a run produced, before and besides any registry."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import quote

import mlflow
import pytest
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric
from mlflow.exceptions import MlflowException

from mlflow_proxy_e2e.clients import Rest, signed_in
from mlflow_proxy_e2e.scratch import Scratch
from mlflow_proxy_e2e.target import Caller, Identity, Route

pytestmark = pytest.mark.capability("logged-models")

API = "/api/2.0/mlflow/logged-models"
UNKNOWN = "m-00000000000000000000000000000000"


class Shelf(NamedTuple):
    """An experiment with three models to be read, by descending accuracy; the first and the last are forests."""

    experiment_id: str
    model_ids: tuple[str, ...]


@pytest.fixture(scope="module")
def shelf(witness: Caller, shared_scratch: Scratch) -> Shelf:
    """Return the models that tests read and that no test changes."""
    with signed_in(*witness) as mlflow_itself:
        experiment_id = mlflow_itself.create_experiment(shared_scratch.experiment())
        models = [
            mlflow_itself.create_logged_model(experiment_id, name, tags={"kind": kind}, params={"depth": "3"})
            for name, kind in (("b", "forest"), ("c", "tree"), ("a", "forest"))  # neither their names nor their ages tell the order
        ]
        run_id = mlflow_itself.create_run(experiment_id).info.run_id
        accuracies = zip(models, (0.9, 0.8, 0.7), strict=True)
        mlflow_itself.log_batch(run_id, [Metric("accuracy", value, 0, 0, model_id=model.model_id) for model, value in accuracies])
    return Shelf(experiment_id, tuple(model.model_id for model in models))


@pytest.fixture
def model_id(witness: Caller, experiment_id: str) -> str:
    """Return a model of the test's own, tagged and still pending."""
    with signed_in(*witness) as mlflow_itself:
        return mlflow_itself.create_logged_model(experiment_id, tags={"team": "fraud", "stage": "draft"}).model_id


def test_create_logged_model(route: Route, can_write: Identity, witness: Caller, experiment_id: str) -> None:
    """A model that is created through a route is there, pending, with name, type, tags, parameters and a place for its files."""
    with signed_in(route, can_write) as client:
        model_id = client.create_logged_model(
            experiment_id, "classifier", tags={"team": "fraud"}, params={"depth": "3"}, model_type="forest"
        ).model_id

    created = _held(witness, model_id)
    assert (created.name, created.model_type, created.status) == ("classifier", "forest", LoggedModelStatus.PENDING)
    assert (created.tags, created.params) == ({"team": "fraud"}, {"depth": "3"})
    assert created.artifact_location.endswith(f"/models/{model_id}/artifacts")  # under a root that is the deployment's choice


def test_many_params(route: Route, can_write: Identity, witness: Caller, experiment_id: str) -> None:
    """All parameters arrive when they are too many for one call, so that the client sends the rest after the model is there."""
    params = {f"layer-{number}": str(number) for number in range(150)}  # the client sends 100 at a time

    with signed_in(route, can_write) as client:
        model_id = client.create_logged_model(experiment_id, params=params).model_id

    assert _held(witness, model_id).params == params


def test_log_with_fluent_api(route: Route, can_write: Identity, witness: Caller, experiment_id: str) -> None:
    """A training script's model knows its run and its metrics, is ready at the end, and is an output of the run."""
    with signed_in(route, can_write), mlflow.start_run(experiment_id=experiment_id) as run:
        model_id = mlflow.initialize_logged_model("classifier").model_id
        mlflow.log_metric("accuracy", 0.9, model_id=model_id)
        mlflow.MlflowClient().log_outputs(run.info.run_id, [LoggedModelOutput(model_id, step=0)])
        mlflow.finalize_logged_model(model_id, "READY")

    logged = _held(witness, model_id)
    assert (logged.source_run_id, logged.status) == (run.info.run_id, LoggedModelStatus.READY)
    assert [(metric.key, metric.value) for metric in logged.metrics or ()] == [("accuracy", 0.9)]
    with signed_in(*witness) as mlflow_itself:
        outputs = mlflow_itself.get_run(run.info.run_id).outputs
    assert outputs
    assert [output.model_id for output in outputs.model_outputs] == [model_id]


@pytest.mark.parametrize("status", [LoggedModelStatus.FAILED, LoggedModelStatus.READY], ids=str)
def test_finalize(route: Route, control: Identity, witness: Caller, model_id: str, status: LoggedModelStatus) -> None:
    """A pending model ends up ready or failed, as it is told."""
    with signed_in(route, control) as client:
        client.finalize_logged_model(model_id, status)

    assert _held(witness, model_id).status is status


def test_set_tags(route: Route, can_write: Identity, witness: Caller, model_id: str) -> None:
    """Tags that are set change their value or are added, all in one call; other tags stay."""
    with signed_in(route, can_write) as client:
        client.set_logged_model_tags(model_id, {"stage": "ready & signed", "reviewed by": "Zoë"})

    assert _held(witness, model_id).tags == {"team": "fraud", "stage": "ready & signed", "reviewed by": "Zoë"}


def test_delete_tag(route: Route, can_write: Identity, witness: Caller, model_id: str) -> None:
    """A tag that is deleted is gone; other tags stay."""
    with signed_in(route, can_write) as client:
        client.delete_logged_model_tag(model_id, "stage")

    assert _held(witness, model_id).tags == {"team": "fraud"}


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("reviewed by", id="space"),
        pytest.param("größe-模型", id="unicode"),
        pytest.param("100%20", id="percent"),
        pytest.param("a?b#c&d+e;f", id="delimiters"),
    ],
)
def test_delete_tag_of_any_key(route: Route, control: Identity, witness: Caller, model_id: str, key: str) -> None:
    """A tag's key is part of the path: percent-encoded it means that tag and no other, whatever characters it is made of."""
    with signed_in(*witness) as mlflow_itself:
        mlflow_itself.set_logged_model_tags(model_id, {key: "x"})

    with Rest(route, control) as rest:
        answer = rest.delete(f"{API}/{model_id}/tags/{quote(key, safe='')}")

    assert answer.status_code == 200
    assert _held(witness, model_id).tags == {"team": "fraud", "stage": "draft"}


def test_delete_logged_model(route: Route, can_write: Identity, witness: Caller, experiment_id: str, model_id: str) -> None:
    """A model that is deleted is neither found nor listed any more."""
    with signed_in(route, can_write) as client:
        client.delete_logged_model(model_id)

    with signed_in(*witness) as mlflow_itself:
        with pytest.raises(MlflowException) as unknown:
            mlflow_itself.get_logged_model(model_id)
        left = mlflow_itself.search_logged_models([experiment_id], f"model_id = '{model_id}'")
    assert unknown.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    assert list(left) == []


def test_get_logged_model(route: Route, can_read: Identity, witness: Caller, shelf: Shelf) -> None:
    """Whoever may read is told of a model what MLflow itself tells."""
    with signed_in(route, can_read) as client:
        seen = client.get_logged_model(shelf.model_ids[0])

    assert dict(seen) == dict(_held(witness, shelf.model_ids[0]))
    assert (seen.name, seen.tags, seen.params) == ("b", {"kind": "forest"}, {"depth": "3"})


def test_search_logged_models(route: Route, can_read: Identity, shelf: Shelf) -> None:
    """Whoever may read finds exactly the models that meet a condition, in the order asked for: this search is a POST."""
    best, _, worst = shelf.model_ids

    with signed_in(route, can_read) as client:
        found = client.search_logged_models(
            [shelf.experiment_id],
            "tags.kind = 'forest' AND metrics.accuracy > 0.5",
            order_by=[{"field_name": "metrics.accuracy", "ascending": True}],
        )

    assert [model.model_id for model in found] == [worst, best]


def test_page_logged_models(route: Route, can_read: Identity, shelf: Shelf) -> None:
    """The pages of a search follow each other without a gap or a repetition, and end."""
    best_first: dict[str, Any] = {"order_by": [{"field_name": "metrics.accuracy", "ascending": False}]}

    with signed_in(route, can_read) as client:
        first = client.search_logged_models([shelf.experiment_id], max_results=2, **best_first)
        last = client.search_logged_models([shelf.experiment_id], max_results=2, page_token=first.token, **best_first)

    assert [[model.model_id for model in page] for page in (first, last)] == [list(shelf.model_ids[:2]), [shelf.model_ids[2]]]
    assert not last.token


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        pytest.param("GET", "", None, id="get"),
        pytest.param("DELETE", "", None, id="delete"),
        pytest.param("PATCH", "", {"model_id": UNKNOWN, "status": "LOGGED_MODEL_READY"}, id="finalize"),
        pytest.param("PATCH", "/tags", {"tags": [{"key": "a", "value": "b"}]}, id="set-tags"),
    ],
)
def test_unknown_model_is_answered_by_mlflow(
    route: Route, control: Identity, method: str, path: str, body: dict[str, Any] | None
) -> None:
    """A call about a model that there is not is answered with MLflow's own 404, which names that model."""
    with Rest(route, control) as rest:
        answer = rest.request(method, f"{API}/{UNKNOWN}{path}", json=body)

    assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert UNKNOWN in answer.json()["message"]


def _held(witness: Caller, model_id: str) -> LoggedModel:
    with signed_in(*witness) as mlflow_itself:
        return mlflow_itself.get_logged_model(model_id)
