"""Runs: created, logged to, found, changed, deleted and restored."""

from __future__ import annotations

from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException

from mlflow_proxy_e2e.rest import Rest
from mlflow_proxy_e2e.scratch import Scratch

API = "/api/2.0/mlflow/runs"
START = 1_700_000_000_123  # milliseconds
UNKNOWN_ID = "0" * 32


@pytest.fixture(scope="module")
def searched(truth: MlflowClient, shared_scratch: Scratch) -> list[str]:
    """Return two experiments to search, each with two runs; no test changes them."""
    experiments = [truth.create_experiment(shared_scratch.experiment()) for _ in range(2)]
    for name, where, loss in (("second", 0, 0.2), ("first", 1, 0.1), ("too high", 1, 2.0), ("third", 0, 0.3)):
        run_id = truth.create_run(experiments[where], run_name=name).info.run_id
        truth.log_metric(run_id, "loss", loss)
    return experiments


@pytest.fixture
def run(truth: MlflowClient, experiment_id: str) -> Run:
    """Return a run for the test, with something of each kind logged to it."""
    run_id = truth.create_run(experiment_id, run_name="before").info.run_id
    truth.log_batch(run_id, [Metric("loss", 0.5, START, 1)], [Param("lr", "0.1")], [RunTag("team", "fraud")])
    return truth.get_run(run_id)


@pytest.fixture
def empty_experiment(truth: MlflowClient, scratch: Scratch) -> str:
    """Return an experiment of the test's own, without runs."""
    return truth.create_experiment(scratch.experiment())


def test_create_run(as_writer: MlflowClient, truth: MlflowClient, empty_experiment: str) -> None:
    """A run created through a route exists once, is running, and has the requested properties."""
    run_id = as_writer.create_run(empty_experiment, START, {"team": "fraud"}, "nightly & new").info.run_id

    runs = truth.search_runs([empty_experiment])
    assert [(run.info.run_id, run.info.run_name) for run in runs] == [(run_id, "nightly & new")]
    assert (runs[0].info.status, runs[0].info.start_time) == ("RUNNING", START)
    assert runs[0].data.tags["team"] == "fraud"


def test_one_run_for_each_call(rest: Rest, truth: MlflowClient, empty_experiment: str) -> None:
    """Each of ten calls creates one run: no hop sends a call twice."""
    answers = [rest.post(f"{API}/create", json={"experiment_id": empty_experiment}) for _ in range(10)]

    assert [answer.status_code for answer in answers] == [200] * 10
    created = {run.info.run_id for run in truth.search_runs([empty_experiment])}
    assert created == {answer.json()["run"]["info"]["run_id"] for answer in answers}


@pytest.mark.usefixtures("signed_in_writer")
def test_nested_runs(truth: MlflowClient, experiment_id: str) -> None:
    """The runs of a training script are nested, and only the one that raised has failed."""
    with mlflow.start_run(experiment_id=experiment_id) as sweep:
        mlflow.log_params({"optimizer": "adam", "layers": 3})
        with mlflow.start_run(experiment_id=experiment_id, run_name="good", nested=True):
            mlflow.log_metric("loss", 0.25, step=7)
        with pytest.raises(ZeroDivisionError), mlflow.start_run(experiment_id=experiment_id, run_name="bad", nested=True):
            _ = 1 / 0

    parent = truth.get_run(sweep.info.run_id)
    below = f"tags.`mlflow.parentRunId` = '{sweep.info.run_id}'"
    trials = {trial.info.run_name: trial for trial in truth.search_runs([experiment_id], below)}
    assert (parent.info.status, parent.data.params) == ("FINISHED", {"optimizer": "adam", "layers": "3"})
    assert {name: trial.info.status for name, trial in trials.items()} == {"good": "FINISHED", "bad": "FAILED"}
    assert trials["good"].data.metrics == {"loss": 0.25}


def test_log_one_by_one(as_writer: MlflowClient, truth: MlflowClient, run: Run) -> None:
    """A parameter, a metric and a tag, each logged in a separate call, are added to the run, and a deleted tag is gone."""
    run_id = run.info.run_id
    tags = {**run.data.tags, "note": "größer\nals 50 %"}
    del tags["team"]

    as_writer.log_param(run_id, "optimizer", "adam")
    as_writer.log_metric(run_id, "accuracy", 0.1 + 0.2, START, 3)
    as_writer.set_tag(run_id, "note", tags["note"])
    as_writer.delete_tag(run_id, "team")

    data = truth.get_run(run_id).data
    history = truth.get_metric_history(run_id, "accuracy")
    assert data.params == {"lr": "0.1", "optimizer": "adam"}
    assert [(metric.value, metric.timestamp, metric.step) for metric in history] == [(0.1 + 0.2, START, 3)]
    assert data.tags == tags


def test_log_largest_batch(as_writer: MlflowClient, truth: MlflowClient, run: Run) -> None:
    """The largest batch that MLflow accepts, over half a megabyte, is logged in full."""
    run_id = run.info.run_id
    metrics = [Metric("curve", step / 7, START + step, step) for step in range(900)]
    params = [Param(f"p{number}", f"{number:06}" * 1000) for number in range(100)]

    as_writer.log_batch(run_id, metrics, params)

    logged = truth.get_run(run_id).data.params
    history = truth.get_metric_history(run_id, "curve")
    assert logged == {"lr": "0.1"} | {param.key: param.value for param in params}
    assert [(metric.value, metric.step) for metric in history] == [(metric.value, metric.step) for metric in metrics]


def test_log_dataset(as_writer: MlflowClient, truth: MlflowClient, run: Run) -> None:
    """A data set is among the inputs of the run that used it, with its description and its purpose."""
    dataset = Dataset(
        "claims", "d1e2f3", "http", '{"url": "https://example.com/claims?v=1&w=2"}', '{"columns": ["ä"]}', '{"rows": 3}'
    )

    as_writer.log_inputs(run.info.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])

    inputs = truth.get_run(run.info.run_id).inputs
    assert inputs is not None
    assert [dict(logged.dataset) for logged in inputs.dataset_inputs] == [dict(dataset)]
    assert [(tag.key, tag.value) for tag in inputs.dataset_inputs[0].tags] == [("mlflow.data.context", "training")]


def test_get_run(reader_rest: Rest, truth_rest: Rest, run: Run) -> None:
    """A run is read exactly as MLflow itself returns it, byte for byte."""
    path = f"{API}/get?run_id={run.info.run_id}"

    expected, answer = truth_rest.get(path), reader_rest.get(path)

    assert answer.status_code == 200
    assert answer.json()["run"]["data"]["params"] == [{"key": "lr", "value": "0.1"}]
    assert answer.content == expected.content


def test_search_runs(as_reader: MlflowClient, searched: list[str]) -> None:
    """A search across experiments finds exactly the runs that match the filter, in the requested order, page by page."""
    search: dict[str, Any] = {"filter_string": "metrics.loss < 1", "order_by": ["metrics.loss ASC"], "max_results": 2}

    page = as_reader.search_runs(searched, **search)
    last_page = as_reader.search_runs(searched, **search, page_token=page.token)

    assert [run.info.run_name for run in page] == ["first", "second"]
    assert [run.info.run_name for run in last_page] == ["third"]
    assert not last_page.token


def test_update_run(as_writer: MlflowClient, truth: MlflowClient, run: Run) -> None:
    """A run is renamed, and terminated with the given status and time, and keeps its data."""
    as_writer.update_run(run.info.run_id, name="after")
    as_writer.set_terminated(run.info.run_id, "KILLED", START + 1)

    updated = truth.get_run(run.info.run_id)
    assert (updated.info.run_name, updated.info.status, updated.info.end_time) == ("after", "KILLED", START + 1)
    assert (updated.data.metrics, updated.data.params) == (run.data.metrics, run.data.params)


def test_delete_and_restore_run(as_writer: MlflowClient, truth: MlflowClient, run: Run) -> None:
    """A deleted run cannot be logged to and is not found; restored, it has all its data."""
    run_id = run.info.run_id
    search: dict[str, Any] = {"experiment_ids": [run.info.experiment_id], "filter_string": f"attributes.run_id = '{run_id}'"}

    as_writer.delete_run(run_id)
    with pytest.raises(MlflowException) as refusal:
        as_writer.log_metric(run_id, "loss", 0.1)
    assert refusal.value.error_code == "INVALID_PARAMETER_VALUE"
    assert truth.search_runs(**search) == []
    assert len(truth.search_runs(**search, run_view_type=ViewType.DELETED_ONLY)) == 1

    as_writer.restore_run(run_id)
    restored = truth.get_run(run_id)
    assert restored.info.lifecycle_stage == "active"
    assert restored.data.to_dictionary() == run.data.to_dictionary()


def test_refused_batch(writer_rest: Rest, truth: MlflowClient, run: Run) -> None:
    """A batch beyond MLflow's limits, or with another value for a logged parameter, is refused as a whole."""
    good = {"key": "good", "value": "x"}
    batches: dict[str, dict[str, Any]] = {
        "too many metrics": {"metrics": [{"key": "m", "value": 1.0, "timestamp": START, "step": n} for n in range(1001)]},
        "too many params": {"params": [{"key": f"p{n}", "value": "x"} for n in range(101)]},
        "too long a key": {"params": [good, {"key": "k" * 251, "value": "x"}]},
        "a changed param": {"params": [good, {"key": "lr", "value": "0.2"}]},
    }

    answers = {
        why: writer_rest.post(f"{API}/log-batch", json={"run_id": run.info.run_id, "tags": [good], **batch})
        for why, batch in batches.items()
    }

    outcomes = {why: (answer.status_code, answer.json()["error_code"]) for why, answer in answers.items()}
    assert outcomes == dict.fromkeys(batches, (400, "INVALID_PARAMETER_VALUE"))
    assert truth.get_run(run.info.run_id).data.to_dictionary() == run.data.to_dictionary()


def test_unknown_run(writer_rest: Rest) -> None:
    """Reading an unknown run, or logging to it, gets MLflow's own 404."""
    answers = {
        "get": writer_rest.get(f"{API}/get", params={"run_id": UNKNOWN_ID}),
        "log": writer_rest.post(f"{API}/log-parameter", json={"run_id": UNKNOWN_ID, "key": "lr", "value": "0.1"}),
    }

    outcomes = {call: (answer.status_code, answer.json()["error_code"]) for call, answer in answers.items()}
    assert outcomes == dict.fromkeys(answers, (404, "RESOURCE_DOES_NOT_EXIST"))
