"""Experiments: created, found, changed, deleted and restored."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from mlflow.entities import Experiment, ViewType

from mlflow_proxy_e2e.clients import Rest, signed_in
from mlflow_proxy_e2e.scratch import Scratch
from mlflow_proxy_e2e.target import Caller, Identity, Route

API = "/api/2.0/mlflow/experiments"
UNKNOWN_ID = "2147483647"  # the largest id that any of MLflow's databases takes: nobody has got that far
UNKNOWN_NAME = "e2e-no-experiment-has-this-name"


@pytest.fixture(scope="module")
def oddly_named(witness: Caller, shared_scratch: Scratch) -> Experiment:
    """Return an experiment that no test changes, with a name that gets lost if a query is decoded on the way."""
    name = shared_scratch.experiment(" a+b&c=d%20e/f?g#h ü")
    with signed_in(*witness) as mlflow_itself:
        experiment_id = mlflow_itself.create_experiment(name, tags={"team": "fraud"})
        stored = mlflow_itself.get_experiment(experiment_id)
    assert stored.name == name
    return stored


@pytest.fixture(scope="module")
def group(witness: Caller, shared_scratch: Scratch) -> list[str]:
    """Return the names, in order, of three experiments whose tag ``group`` is the first name; another group has one more."""
    first, second, third, other = (shared_scratch.experiment() for _ in range(4))
    with signed_in(*witness) as mlflow_itself:
        for name in (second, first, third):
            mlflow_itself.create_experiment(name, tags={"group": first})
        mlflow_itself.create_experiment(other, tags={"group": other})
    return [first, second, third]


@pytest.fixture
def experiment(witness: Caller, scratch: Scratch) -> Experiment:
    """Return an experiment of the test's own."""
    with signed_in(*witness) as mlflow_itself:
        experiment_id = mlflow_itself.create_experiment(scratch.experiment(), tags={"team": "fraud", "stage": "draft"})
        return mlflow_itself.get_experiment(experiment_id)


def test_create_experiment(route: Route, can_write: Identity, witness: Caller, scratch: Scratch) -> None:
    """An experiment that is created through a route is there, with its tags and the artifact location that it was given."""
    name = scratch.experiment()
    location = f"mlflow-artifacts:/elsewhere/{name}"

    with signed_in(route, can_write) as client:
        experiment_id = client.create_experiment(name, artifact_location=location, tags={"team": "fraud"})

    with signed_in(*witness) as mlflow_itself:
        created = mlflow_itself.get_experiment(experiment_id)
    assert (created.name, created.lifecycle_stage, created.tags["team"]) == (name, "active", "fraud")
    assert created.artifact_location == location


@pytest.mark.capability("artifacts")
def test_default_artifact_location(route: Route, can_write: Identity, witness: Caller, scratch: Scratch) -> None:
    """By default artifacts go through the tracking server, at an address without a host: a client reaches it by its own route."""
    with signed_in(route, can_write) as client:
        experiment_id = client.create_experiment(scratch.experiment())

    with signed_in(*witness) as mlflow_itself:
        location = urlsplit(mlflow_itself.get_experiment(experiment_id).artifact_location)
    assert (location.scheme, location.netloc) == ("mlflow-artifacts", "")


def test_get_experiment(route: Route, can_read: Identity, oddly_named: Experiment) -> None:
    """An experiment is found by its id and by its name, whatever characters that has."""
    with signed_in(route, can_read) as client:
        by_id = client.get_experiment(oddly_named.experiment_id)
        by_name = client.get_experiment_by_name(oddly_named.name)

    assert dict(by_id) == dict(oddly_named)
    assert by_name is not None
    assert dict(by_name) == dict(oddly_named)


def test_search_experiments(route: Route, can_read: Identity, group: list[str]) -> None:
    """A search finds what its filter describes and nothing else, in the order asked for, page by page."""
    first, second, third = group
    search: dict[str, Any] = {"filter_string": f"tags.group = '{first}'", "order_by": ["name DESC"], "max_results": 2}

    with signed_in(route, can_read) as client:
        page = client.search_experiments(**search)
        last_page = client.search_experiments(**search, page_token=page.token)

    assert [experiment.name for experiment in page] == [third, second]
    assert [experiment.name for experiment in last_page] == [first]
    assert not last_page.token


def test_rename_experiment(route: Route, can_write: Identity, witness: Caller, scratch: Scratch, experiment: Experiment) -> None:
    """An experiment that is renamed keeps its id and its tags, and is no longer found by its old name."""
    name = scratch.experiment("-renamed")

    with signed_in(route, can_write) as client:
        client.rename_experiment(experiment.experiment_id, name)

    with signed_in(*witness) as mlflow_itself:
        renamed = mlflow_itself.get_experiment(experiment.experiment_id)
        under_old_name = mlflow_itself.get_experiment_by_name(experiment.name)
    assert (renamed.name, renamed.tags) == (name, experiment.tags)
    assert under_old_name is None


@pytest.mark.since("3.2")  # older ones cannot delete a tag
def test_experiment_tags(route: Route, can_write: Identity, witness: Caller, experiment: Experiment) -> None:
    """A tag is set, replaced or deleted, and the others stay as they are."""
    with signed_in(route, can_write) as client:
        client.set_experiment_tag(experiment.experiment_id, "owner", "Zoë <zoe@example.com>")
        client.set_experiment_tag(experiment.experiment_id, "stage", "final")
        client.delete_experiment_tag(experiment.experiment_id, "team")

    with signed_in(*witness) as mlflow_itself:
        tags = mlflow_itself.get_experiment(experiment.experiment_id).tags
    expected = {**experiment.tags, "owner": "Zoë <zoe@example.com>", "stage": "final"}
    del expected["team"]
    assert tags == expected


def test_delete_and_restore_experiment(route: Route, can_write: Identity, witness: Caller, experiment: Experiment) -> None:
    """A deleted experiment takes its runs with it, and restoring it brings them back."""
    with signed_in(*witness) as mlflow_itself:
        run_id = mlflow_itself.create_run(experiment.experiment_id).info.run_id

    with signed_in(route, can_write) as client:
        client.delete_experiment(experiment.experiment_id)
    assert _stages(witness, experiment.experiment_id) == ("deleted", {run_id: "deleted"})

    with signed_in(route, can_write) as client:
        client.restore_experiment(experiment.experiment_id)
    assert _stages(witness, experiment.experiment_id) == ("active", {run_id: "active"})


def test_name_conflict(route: Route, can_write: Identity, witness: Caller, experiment: Experiment) -> None:
    """A name that is taken cannot be used again, and who has it keeps everything."""
    with Rest(route, can_write) as rest:
        answer = rest.post(f"{API}/create", json={"name": experiment.name, "tags": [{"key": "team", "value": "intruder"}]})

    assert (answer.status_code, answer.json()["error_code"]) == (400, "RESOURCE_ALREADY_EXISTS")
    with signed_in(*witness) as mlflow_itself:
        holder = mlflow_itself.get_experiment_by_name(experiment.name)
    assert holder is not None
    assert dict(holder) == dict(experiment)


def test_tag_too_long(route: Route, can_write: Identity, witness: Caller, experiment: Experiment) -> None:
    """A tag that is longer than MLflow allows is refused as MLflow refuses it, and not set."""
    body = {"experiment_id": experiment.experiment_id, "key": "stage", "value": "x" * 20_001}

    with Rest(route, can_write) as rest:
        answer = rest.post(f"{API}/set-experiment-tag", json=body)

    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    with signed_in(*witness) as mlflow_itself:
        assert mlflow_itself.get_experiment(experiment.experiment_id).tags == experiment.tags


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(f"{API}/get?experiment_id={UNKNOWN_ID}", id="id"),
        pytest.param(f"{API}/get-by-name?experiment_name={UNKNOWN_NAME}", id="name"),
    ],
)
def test_get_unknown_experiment(route: Route, can_read: Identity, witness: Caller, path: str) -> None:
    """Who asks for an experiment that is not there gets MLflow's own error, byte for byte."""
    with Rest(*witness) as mlflow_itself, Rest(route, can_read) as rest:
        expected, answer = mlflow_itself.get(path), rest.get(path)

    assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert answer.headers["Content-Type"] == expected.headers["Content-Type"]
    assert answer.content == expected.content


def test_change_unknown_experiment(route: Route, can_write: Identity, witness: Caller) -> None:
    """Who changes an experiment that is not there is told so, whatever the change, and it does not come to be."""
    changes = {
        "update": {"new_name": UNKNOWN_NAME},
        "set-experiment-tag": {"key": "team", "value": "fraud"},
        "delete": {},
        "restore": {},
    }

    with Rest(route, can_write) as rest:
        answers = {action: rest.post(f"{API}/{action}", json={"experiment_id": UNKNOWN_ID, **c}) for action, c in changes.items()}

    outcomes = {action: (answer.status_code, answer.json()["error_code"]) for action, answer in answers.items()}
    assert outcomes == dict.fromkeys(changes, (404, "RESOURCE_DOES_NOT_EXIST"))
    with signed_in(*witness) as mlflow_itself:
        assert mlflow_itself.get_experiment_by_name(UNKNOWN_NAME) is None


def _stages(witness: Caller, experiment_id: str) -> tuple[str, dict[str, str]]:
    """Return the lifecycle stage of an experiment, and those of its runs by their ids."""
    with signed_in(*witness) as mlflow_itself:
        experiment = mlflow_itself.get_experiment(experiment_id)
        runs = mlflow_itself.search_runs([experiment_id], run_view_type=ViewType.ALL)
    return experiment.lifecycle_stage, {run.info.run_id: run.info.lifecycle_stage for run in runs}
