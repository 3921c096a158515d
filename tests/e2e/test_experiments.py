"""Experiments: created, found, changed, deleted and restored."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient
from mlflow.entities import Experiment, ViewType

from mlflow_proxy_e2e.rest import Rest
from mlflow_proxy_e2e.scratch import Scratch

API = "/api/2.0/mlflow/experiments"
UNKNOWN_ID = "2147483647"  # the largest id that any of MLflow's databases supports: unlikely to be in use
UNKNOWN_NAME = "e2e-no-experiment-has-this-name"


@pytest.fixture(scope="module")
def oddly_named(truth: MlflowClient, shared_scratch: Scratch) -> Experiment:
    """Return an experiment that no test changes, with a name that breaks if a hop decodes the query."""
    name = shared_scratch.experiment(" a+b&c=d%20e/f?g#h ü")
    experiment_id = truth.create_experiment(name, tags={"team": "fraud"})
    stored = truth.get_experiment(experiment_id)
    assert stored.name == name
    return stored


@pytest.fixture(scope="module")
def group(truth: MlflowClient, shared_scratch: Scratch) -> list[str]:
    """Return the names, in order, of three experiments whose tag ``group`` is the first name; another group has one more."""
    first, second, third, other = (shared_scratch.experiment() for _ in range(4))
    for name in (second, first, third):
        truth.create_experiment(name, tags={"group": first})
    truth.create_experiment(other, tags={"group": other})
    return [first, second, third]


@pytest.fixture
def experiment(truth: MlflowClient, scratch: Scratch) -> Experiment:
    """Return an experiment of the test's own."""
    experiment_id = truth.create_experiment(scratch.experiment(), tags={"team": "fraud", "stage": "draft"})
    return truth.get_experiment(experiment_id)


def test_create_experiment(as_writer: MlflowClient, truth: MlflowClient, scratch: Scratch) -> None:
    """An experiment created through a route exists, with the tags and the artifact location it was given."""
    name = scratch.experiment()
    location = f"mlflow-artifacts:/elsewhere/{name}"

    experiment_id = as_writer.create_experiment(name, artifact_location=location, tags={"team": "fraud"})

    created = truth.get_experiment(experiment_id)
    assert (created.name, created.lifecycle_stage, created.tags["team"]) == (name, "active", "fraud")
    assert created.artifact_location == location


@pytest.mark.capability("artifacts")
def test_default_artifact_location(as_writer: MlflowClient, truth: MlflowClient, scratch: Scratch) -> None:
    """The default artifact location is the tracking server without a host, so that clients use their own route."""
    experiment_id = as_writer.create_experiment(scratch.experiment())

    location = urlsplit(truth.get_experiment(experiment_id).artifact_location)
    assert (location.scheme, location.netloc) == ("mlflow-artifacts", "")


def test_get_experiment(as_reader: MlflowClient, oddly_named: Experiment) -> None:
    """An experiment is found by its id and by its name, whatever characters are in the name."""
    by_id = as_reader.get_experiment(oddly_named.experiment_id)
    by_name = as_reader.get_experiment_by_name(oddly_named.name)

    assert dict(by_id) == dict(oddly_named)
    assert by_name is not None
    assert dict(by_name) == dict(oddly_named)


def test_search_experiments(as_reader: MlflowClient, group: list[str]) -> None:
    """A search finds exactly the experiments that match the filter, in the requested order, page by page."""
    first, second, third = group
    search: dict[str, Any] = {"filter_string": f"tags.group = '{first}'", "order_by": ["name DESC"], "max_results": 2}

    page = as_reader.search_experiments(**search)
    last_page = as_reader.search_experiments(**search, page_token=page.token)

    assert [experiment.name for experiment in page] == [third, second]
    assert [experiment.name for experiment in last_page] == [first]
    assert not last_page.token


def test_rename_experiment(as_writer: MlflowClient, truth: MlflowClient, scratch: Scratch, experiment: Experiment) -> None:
    """A renamed experiment keeps its id and its tags, and is no longer found by its old name."""
    name = scratch.experiment("-renamed")

    as_writer.rename_experiment(experiment.experiment_id, name)

    renamed = truth.get_experiment(experiment.experiment_id)
    assert (renamed.name, renamed.tags) == (name, experiment.tags)
    assert truth.get_experiment_by_name(experiment.name) is None


@pytest.mark.since("3.2")  # older ones cannot delete a tag
def test_experiment_tags(as_writer: MlflowClient, truth: MlflowClient, experiment: Experiment) -> None:
    """A tag is set, replaced or deleted, and other tags stay unchanged."""
    as_writer.set_experiment_tag(experiment.experiment_id, "owner", "Zoë <zoe@example.com>")
    as_writer.set_experiment_tag(experiment.experiment_id, "stage", "final")
    as_writer.delete_experiment_tag(experiment.experiment_id, "team")

    expected = {**experiment.tags, "owner": "Zoë <zoe@example.com>", "stage": "final"}
    del expected["team"]
    assert truth.get_experiment(experiment.experiment_id).tags == expected


def test_delete_and_restore_experiment(as_writer: MlflowClient, truth: MlflowClient, experiment: Experiment) -> None:
    """A deleted experiment takes its runs with it, and restoring it brings them back."""
    run_id = truth.create_run(experiment.experiment_id).info.run_id

    as_writer.delete_experiment(experiment.experiment_id)
    assert _stages(truth, experiment.experiment_id) == ("deleted", {run_id: "deleted"})

    as_writer.restore_experiment(experiment.experiment_id)
    assert _stages(truth, experiment.experiment_id) == ("active", {run_id: "active"})


def test_name_conflict(writer_rest: Rest, truth: MlflowClient, experiment: Experiment) -> None:
    """A name that is taken cannot be used again, and the experiment that has it is unchanged."""
    answer = writer_rest.post(f"{API}/create", json={"name": experiment.name, "tags": [{"key": "team", "value": "intruder"}]})

    assert (answer.status_code, answer.json()["error_code"]) == (400, "RESOURCE_ALREADY_EXISTS")
    holder = truth.get_experiment_by_name(experiment.name)
    assert holder is not None
    assert dict(holder) == dict(experiment)


def test_tag_too_long(writer_rest: Rest, truth: MlflowClient, experiment: Experiment) -> None:
    """A tag longer than MLflow allows is refused with MLflow's own error, and is not set."""
    body = {"experiment_id": experiment.experiment_id, "key": "stage", "value": "x" * 20_001}

    answer = writer_rest.post(f"{API}/set-experiment-tag", json=body)

    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert truth.get_experiment(experiment.experiment_id).tags == experiment.tags


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(f"{API}/get?experiment_id={UNKNOWN_ID}", id="id"),
        pytest.param(f"{API}/get-by-name?experiment_name={UNKNOWN_NAME}", id="name"),
    ],
)
def test_get_unknown_experiment(reader_rest: Rest, truth_rest: Rest, path: str) -> None:
    """A request for an unknown experiment gets MLflow's own error, byte for byte."""
    expected, answer = truth_rest.get(path), reader_rest.get(path)

    assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert answer.headers["Content-Type"] == expected.headers["Content-Type"]
    assert answer.content == expected.content


def test_change_unknown_experiment(writer_rest: Rest, truth: MlflowClient) -> None:
    """Any change to an unknown experiment is refused as such, and does not create it."""
    changes = {
        "update": {"new_name": UNKNOWN_NAME},
        "set-experiment-tag": {"key": "team", "value": "fraud"},
        "delete": {},
        "restore": {},
    }

    answers = {
        action: writer_rest.post(f"{API}/{action}", json={"experiment_id": UNKNOWN_ID, **change})
        for action, change in changes.items()
    }

    outcomes = {action: (answer.status_code, answer.json()["error_code"]) for action, answer in answers.items()}
    assert outcomes == dict.fromkeys(changes, (404, "RESOURCE_DOES_NOT_EXIST"))
    assert truth.get_experiment_by_name(UNKNOWN_NAME) is None


def _stages(truth: MlflowClient, experiment_id: str) -> tuple[str, dict[str, str]]:
    """Return the lifecycle stage of an experiment, and those of its runs by their ids."""
    experiment = truth.get_experiment(experiment_id)
    runs = truth.search_runs([experiment_id], run_view_type=ViewType.ALL)
    return experiment.lifecycle_stage, {run.info.run_id: run.info.lifecycle_stage for run in runs}
