"""Runs: created, logged to, found, changed, deleted and restored."""

from __future__ import annotations

from typing import Any

import mlflow
import pytest
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException

from mlflow_proxy_e2e.clients import Rest, signed_in
from mlflow_proxy_e2e.scratch import Scratch
from mlflow_proxy_e2e.target import Caller, Identity, Route

API = "/api/2.0/mlflow/runs"
START = 1_700_000_000_123  # milliseconds
UNKNOWN_ID = "0" * 32


@pytest.fixture(scope="module")
def searched(witness: Caller, shared_scratch: Scratch) -> list[str]:
    """Return the experiments that are searched, each with two runs; no test changes them."""
    with signed_in(*witness) as mlflow_itself:
        experiments = [mlflow_itself.create_experiment(shared_scratch.experiment()) for _ in range(2)]
        for name, where, loss in (("second", 0, 0.2), ("first", 1, 0.1), ("too high", 1, 2.0), ("third", 0, 0.3)):
            run_id = mlflow_itself.create_run(experiments[where], run_name=name).info.run_id
            mlflow_itself.log_metric(run_id, "loss", loss)
    return experiments


@pytest.fixture
def run(witness: Caller, experiment_id: str) -> Run:
    """Return a run of the test's own, with something of each kind logged to it."""
    with signed_in(*witness) as mlflow_itself:
        run_id = mlflow_itself.create_run(experiment_id, run_name="before").info.run_id
        mlflow_itself.log_batch(run_id, [Metric("loss", 0.5, START, 1)], [Param("lr", "0.1")], [RunTag("team", "fraud")])
        return mlflow_itself.get_run(run_id)


def test_create_run(route: Route, can_write: Identity, witness: Caller, experiment_id: str) -> None:
    """A run that is created through a route is there once, as it was asked for, and is running."""
    name = f"by {can_write} through {route}"

    with signed_in(route, can_write) as client:
        run_id = client.create_run(experiment_id, START, {"team": "fraud"}, name).info.run_id

    with signed_in(*witness) as mlflow_itself:
        runs = mlflow_itself.search_runs([experiment_id], f"attributes.run_name = '{name}'")
    assert [run.info.run_id for run in runs] == [run_id]
    assert (runs[0].info.status, runs[0].info.start_time) == ("RUNNING", START)
    assert runs[0].data.tags["team"] == "fraud"


def test_one_run_for_each_call(route: Route, control: Identity, witness: Caller, scratch: Scratch) -> None:
    """Of ten calls each creates one run: nobody on the way sends one again, or sends a copy of it."""
    with signed_in(*witness) as mlflow_itself:
        experiment_id = mlflow_itself.create_experiment(scratch.experiment())

    with Rest(route, control) as rest:
        answers = [rest.post(f"{API}/create", json={"experiment_id": experiment_id}) for _ in range(10)]

    assert [answer.status_code for answer in answers] == [200] * 10
    with signed_in(*witness) as mlflow_itself:
        created = {run.info.run_id for run in mlflow_itself.search_runs([experiment_id])}
    assert created == {answer.json()["run"]["info"]["run_id"] for answer in answers}


def test_nested_runs(route: Route, can_write: Identity, witness: Caller, experiment_id: str) -> None:
    """A training script's sweep has its trials beneath it, and a trial that breaks off is the only one that has failed."""
    with signed_in(route, can_write), mlflow.start_run(experiment_id=experiment_id) as sweep:
        mlflow.log_params({"optimizer": "adam", "layers": 3})
        with mlflow.start_run(experiment_id=experiment_id, run_name="good", nested=True):
            mlflow.log_metric("loss", 0.25, step=7)
        with pytest.raises(ZeroDivisionError), mlflow.start_run(experiment_id=experiment_id, run_name="bad", nested=True):
            _ = 1 / 0

    with signed_in(*witness) as mlflow_itself:
        parent = mlflow_itself.get_run(sweep.info.run_id)
        below = f"tags.`mlflow.parentRunId` = '{sweep.info.run_id}'"
        trials = {trial.info.run_name: trial for trial in mlflow_itself.search_runs([experiment_id], below)}
    assert (parent.info.status, parent.data.params) == ("FINISHED", {"optimizer": "adam", "layers": "3"})
    assert {name: trial.info.status for name, trial in trials.items()} == {"good": "FINISHED", "bad": "FAILED"}
    assert trials["good"].data.metrics == {"loss": 0.25}


def test_log_one_by_one(route: Route, can_write: Identity, witness: Caller, run: Run) -> None:
    """A parameter, a metric and a tag, each logged in a call of its own, join what the run has, and a deleted tag leaves it."""
    run_id = run.info.run_id
    tags = {**run.data.tags, "note": "größer\nals 50 %"}
    del tags["team"]

    with signed_in(route, can_write) as client:
        client.log_param(run_id, "optimizer", "adam")
        client.log_metric(run_id, "accuracy", 0.1 + 0.2, START, 3)
        client.set_tag(run_id, "note", tags["note"])
        client.delete_tag(run_id, "team")

    with signed_in(*witness) as mlflow_itself:
        data = mlflow_itself.get_run(run_id).data
        history = mlflow_itself.get_metric_history(run_id, "accuracy")
    assert data.params == {"lr": "0.1", "optimizer": "adam"}
    assert [(metric.value, metric.timestamp, metric.step) for metric in history] == [(0.1 + 0.2, START, 3)]
    assert data.tags == tags


def test_log_largest_batch(route: Route, can_write: Identity, witness: Caller, run: Run) -> None:
    """The largest batch that MLflow takes, over half a megabyte, is logged in full."""
    run_id = run.info.run_id
    metrics = [Metric("curve", step / 7, START + step, step) for step in range(900)]
    params = [Param(f"p{number}", f"{number:06}" * 1000) for number in range(100)]

    with signed_in(route, can_write) as client:
        client.log_batch(run_id, metrics, params)

    with signed_in(*witness) as mlflow_itself:
        logged = mlflow_itself.get_run(run_id).data.params
        history = mlflow_itself.get_metric_history(run_id, "curve")
    assert logged == {"lr": "0.1"} | {param.key: param.value for param in params}
    assert [(metric.value, metric.step) for metric in history] == [(metric.value, metric.step) for metric in metrics]


def test_log_dataset(route: Route, can_write: Identity, witness: Caller, run: Run) -> None:
    """A data set that a run was trained on is among its inputs, with all that describes it and what it was used for."""
    dataset = Dataset(
        "claims", "d1e2f3", "http", '{"url": "https://example.com/claims?v=1&w=2"}', '{"columns": ["ä"]}', '{"rows": 3}'
    )

    with signed_in(route, can_write) as client:
        client.log_inputs(run.info.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])

    with signed_in(*witness) as mlflow_itself:
        inputs = mlflow_itself.get_run(run.info.run_id).inputs
    assert inputs is not None
    assert [dict(logged.dataset) for logged in inputs.dataset_inputs] == [dict(dataset)]
    assert [(tag.key, tag.value) for tag in inputs.dataset_inputs[0].tags] == [("mlflow.data.context", "training")]


def test_get_run(route: Route, can_read: Identity, witness: Caller, run: Run) -> None:
    """A script that reads a run gets what MLflow itself says, byte for byte."""
    path = f"{API}/get?run_id={run.info.run_id}"

    with Rest(*witness) as mlflow_itself, Rest(route, can_read) as rest:
        expected, answer = mlflow_itself.get(path), rest.get(path)

    assert answer.status_code == 200
    assert answer.json()["run"]["data"]["params"] == [{"key": "lr", "value": "0.1"}]
    assert answer.content == expected.content


def test_search_runs(route: Route, can_read: Identity, searched: list[str]) -> None:
    """A search across experiments finds what its filter describes and nothing else, in the order asked for, page by page."""
    search: dict[str, Any] = {"filter_string": "metrics.loss < 1", "order_by": ["metrics.loss ASC"], "max_results": 2}
    with signed_in(route, can_read) as client:
        page = client.search_runs(searched, **search)
        last_page = client.search_runs(searched, **search, page_token=page.token)

    assert [run.info.run_name for run in page] == ["first", "second"]
    assert [run.info.run_name for run in last_page] == ["third"]
    assert not last_page.token


def test_update_run(route: Route, can_write: Identity, witness: Caller, run: Run) -> None:
    """A run is renamed, and terminated with the status and at the time that were given, and keeps its data."""
    with signed_in(route, can_write) as client:
        client.update_run(run.info.run_id, name="after")
        client.set_terminated(run.info.run_id, "KILLED", START + 1)

    with signed_in(*witness) as mlflow_itself:
        updated = mlflow_itself.get_run(run.info.run_id)
    info = updated.info
    assert (info.run_name, info.status, info.end_time) == ("after", "KILLED", START + 1)
    assert (updated.data.metrics, updated.data.params) == (run.data.metrics, run.data.params)


def test_delete_and_restore_run(route: Route, can_write: Identity, witness: Caller, run: Run) -> None:
    """A deleted run takes nothing more and is out of sight until it is restored, with all that it had."""
    run_id = run.info.run_id
    search: dict[str, Any] = {"experiment_ids": [run.info.experiment_id], "filter_string": f"attributes.run_id = '{run_id}'"}

    with signed_in(route, can_write) as client:
        client.delete_run(run_id)
        with pytest.raises(MlflowException) as refusal:
            client.log_metric(run_id, "loss", 0.1)
    assert refusal.value.error_code == "INVALID_PARAMETER_VALUE"
    with signed_in(*witness) as mlflow_itself:
        assert mlflow_itself.search_runs(**search) == []
        assert len(mlflow_itself.search_runs(**search, run_view_type=ViewType.DELETED_ONLY)) == 1

    with signed_in(route, can_write) as client:
        client.restore_run(run_id)
    with signed_in(*witness) as mlflow_itself:
        restored = mlflow_itself.get_run(run_id)
    assert restored.info.lifecycle_stage == "active"
    assert restored.data.to_dictionary() == run.data.to_dictionary()


def test_refused_batch(route: Route, can_write: Identity, witness: Caller, run: Run) -> None:
    """A batch beyond MLflow's limits, or with another value for a logged parameter, is refused, and nothing of it is logged."""
    good = {"key": "good", "value": "x"}
    batches: dict[str, dict[str, Any]] = {
        "too many metrics": {"metrics": [{"key": "m", "value": 1.0, "timestamp": START, "step": n} for n in range(1001)]},
        "too many params": {"params": [{"key": f"p{n}", "value": "x"} for n in range(101)]},
        "too long a key": {"params": [good, {"key": "k" * 251, "value": "x"}]},
        "a changed param": {"params": [good, {"key": "lr", "value": "0.2"}]},
    }

    with Rest(route, can_write) as rest:
        answers = {
            why: rest.post(f"{API}/log-batch", json={"run_id": run.info.run_id, "tags": [good], **batch})
            for why, batch in batches.items()
        }

    outcomes = {why: (answer.status_code, answer.json()["error_code"]) for why, answer in answers.items()}
    assert outcomes == dict.fromkeys(batches, (400, "INVALID_PARAMETER_VALUE"))
    with signed_in(*witness) as mlflow_itself:
        assert mlflow_itself.get_run(run.info.run_id).data.to_dictionary() == run.data.to_dictionary()


def test_unknown_run(route: Route, can_write: Identity) -> None:
    """Who asks for a run that is not there, or logs to it, is told so."""
    with Rest(route, can_write) as rest:
        answers = {
            "get": rest.get(f"{API}/get", params={"run_id": UNKNOWN_ID}),
            "log": rest.post(f"{API}/log-parameter", json={"run_id": UNKNOWN_ID, "key": "lr", "value": "0.1"}),
        }

    outcomes = {call: (answer.status_code, answer.json()["error_code"]) for call, answer in answers.items()}
    assert outcomes == dict.fromkeys(answers, (404, "RESOURCE_DOES_NOT_EXIST"))
