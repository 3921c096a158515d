"""Logged models: the models that runs produce, independently of the registry."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import quote

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric
from mlflow.exceptions import MlflowException

from mlflow_proxy_e2e.rest import Rest
from mlflow_proxy_e2e.scratch import Scratch

pytestmark = pytest.mark.capability("logged-models")

API = "/api/2.0/mlflow/logged-models"
UNKNOWN = "m-00000000000000000000000000000000"


class ExistingModels(NamedTuple):
    """An experiment with three models, in order of descending accuracy; the first and the last are forests."""

    experiment_id: str
    model_ids: tuple[str, ...]


@pytest.fixture(scope="module")
def existing(truth: MlflowClient, shared_scratch: Scratch) -> ExistingModels:
    """Return models that tests read and no test changes."""
    experiment_id = truth.create_experiment(shared_scratch.experiment())
    models = [
        truth.create_logged_model(experiment_id, name, tags={"kind": kind}, params={"depth": "3"})
        for name, kind in (("b", "forest"), ("c", "tree"), ("a", "forest"))  # neither names nor ages reveal the order
    ]
    run_id = truth.create_run(experiment_id).info.run_id
    accuracies = zip(models, (0.9, 0.8, 0.7), strict=True)
    truth.log_batch(run_id, [Metric("accuracy", value, 0, 0, model_id=model.model_id) for model, value in accuracies])
    return ExistingModels(experiment_id, tuple(model.model_id for model in models))


@pytest.fixture
def model_id(truth: MlflowClient, experiment_id: str) -> str:
    """Return a model of the test's own, tagged and still pending."""
    return truth.create_logged_model(experiment_id, tags={"team": "fraud", "stage": "draft"}).model_id


def test_create_logged_model(as_writer: MlflowClient, truth: MlflowClient, experiment_id: str) -> None:
    """A model created through a route exists, pending, with name, type, tags, parameters and an artifact location."""
    model_id = as_writer.create_logged_model(
        experiment_id, "classifier", tags={"team": "fraud"}, params={"depth": "3"}, model_type="forest"
    ).model_id

    created = truth.get_logged_model(model_id)
    assert (created.name, created.model_type, created.status) == ("classifier", "forest", LoggedModelStatus.PENDING)
    assert (created.tags, created.params) == ({"team": "fraud"}, {"depth": "3"})
    assert created.artifact_location.endswith(f"/models/{model_id}/artifacts")  # under a root that is the deployment's choice


def test_many_params(as_writer: MlflowClient, truth: MlflowClient, experiment_id: str) -> None:
    """All parameters arrive even when the client needs more than one call to send them."""
    params = {f"layer-{number}": str(number) for number in range(150)}  # the client sends 100 at a time

    model_id = as_writer.create_logged_model(experiment_id, params=params).model_id

    assert truth.get_logged_model(model_id).params == params


@pytest.mark.usefixtures("signed_in_writer")
def test_log_with_fluent_api(truth: MlflowClient, experiment_id: str) -> None:
    """A model logged by a training script has its run and metrics, is ready at the end, and is an output of the run."""
    with mlflow.start_run(experiment_id=experiment_id) as run:
        model_id = mlflow.initialize_logged_model("classifier").model_id
        mlflow.log_metric("accuracy", 0.9, model_id=model_id)
        mlflow.MlflowClient().log_outputs(run.info.run_id, [LoggedModelOutput(model_id, step=0)])
        mlflow.finalize_logged_model(model_id, "READY")

    logged = truth.get_logged_model(model_id)
    assert (logged.source_run_id, logged.status) == (run.info.run_id, LoggedModelStatus.READY)
    assert [(metric.key, metric.value) for metric in logged.metrics or ()] == [("accuracy", 0.9)]
    outputs = truth.get_run(run.info.run_id).outputs
    assert outputs
    assert [output.model_id for output in outputs.model_outputs] == [model_id]


@pytest.mark.parametrize("status", [LoggedModelStatus.FAILED, LoggedModelStatus.READY], ids=str)
def test_finalize(client: MlflowClient, truth: MlflowClient, model_id: str, status: LoggedModelStatus) -> None:
    """A pending model is finalized as ready or as failed."""
    client.finalize_logged_model(model_id, status)

    assert truth.get_logged_model(model_id).status is status


def test_set_tags(as_writer: MlflowClient, truth: MlflowClient, model_id: str) -> None:
    """One call changes the value of a tag and adds another; other tags stay."""
    as_writer.set_logged_model_tags(model_id, {"stage": "ready & signed", "reviewed by": "Zoë"})

    assert truth.get_logged_model(model_id).tags == {"team": "fraud", "stage": "ready & signed", "reviewed by": "Zoë"}


def test_delete_tag(as_writer: MlflowClient, truth: MlflowClient, model_id: str) -> None:
    """A deleted tag is gone; other tags stay."""
    as_writer.delete_logged_model_tag(model_id, "stage")

    assert truth.get_logged_model(model_id).tags == {"team": "fraud"}


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("reviewed by", id="space"),
        pytest.param("größe-模型", id="unicode"),
        pytest.param("100%20", id="percent"),
        pytest.param("a?b#c&d+e;f", id="delimiters"),
    ],
)
def test_delete_tag_of_any_key(rest: Rest, truth: MlflowClient, model_id: str, key: str) -> None:
    """A percent-encoded key in the path deletes exactly that tag, whatever characters are in the key."""
    truth.set_logged_model_tags(model_id, {key: "x"})

    answer = rest.delete(f"{API}/{model_id}/tags/{quote(key, safe='')}")

    assert answer.status_code == 200
    assert truth.get_logged_model(model_id).tags == {"team": "fraud", "stage": "draft"}


def test_delete_logged_model(as_writer: MlflowClient, truth: MlflowClient, experiment_id: str, model_id: str) -> None:
    """A deleted model is neither found nor listed any more."""
    as_writer.delete_logged_model(model_id)

    with pytest.raises(MlflowException) as unknown:
        truth.get_logged_model(model_id)
    left = truth.search_logged_models([experiment_id], f"model_id = '{model_id}'")
    assert unknown.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    assert list(left) == []


def test_get_logged_model(as_reader: MlflowClient, truth: MlflowClient, existing: ExistingModels) -> None:
    """A model is read exactly as MLflow itself returns it."""
    seen = as_reader.get_logged_model(existing.model_ids[0])

    assert dict(seen) == dict(truth.get_logged_model(existing.model_ids[0]))
    assert (seen.name, seen.tags, seen.params) == ("b", {"kind": "forest"}, {"depth": "3"})


def test_search_logged_models(as_reader: MlflowClient, existing: ExistingModels) -> None:
    """A search, which is a POST, finds exactly the models that match the filter, in the requested order."""
    best, _, worst = existing.model_ids

    found = as_reader.search_logged_models(
        [existing.experiment_id],
        "tags.kind = 'forest' AND metrics.accuracy > 0.5",
        order_by=[{"field_name": "metrics.accuracy", "ascending": True}],
    )

    assert [model.model_id for model in found] == [worst, best]


def test_page_logged_models(as_reader: MlflowClient, existing: ExistingModels) -> None:
    """The pages of a search have no gaps or repetitions, and come to an end."""
    best_first: dict[str, Any] = {"order_by": [{"field_name": "metrics.accuracy", "ascending": False}]}

    first = as_reader.search_logged_models([existing.experiment_id], max_results=2, **best_first)
    last = as_reader.search_logged_models([existing.experiment_id], max_results=2, page_token=first.token, **best_first)

    assert [[model.model_id for model in page] for page in (first, last)] == [list(existing.model_ids[:2]), [existing.model_ids[2]]]
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
def test_unknown_model_is_answered_by_mlflow(rest: Rest, method: str, path: str, body: dict[str, Any] | None) -> None:
    """A call for an unknown model gets MLflow's own 404, which names the model."""
    answer = rest.request(method, f"{API}/{UNKNOWN}{path}", json=body)

    assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert UNKNOWN in answer.json()["message"]
