"""Experiments: created, found, changed, deleted and restored."""

from __future__ import annotations

from fixtures.clients import signed_in
from fixtures.scratch import Scratch
from fixtures.target import Identity, Route
from tests.e2e.conftest import Caller


def test_create_experiment(route: Route, can_write: Identity, witness: Caller, scratch: Scratch) -> None:
    """An experiment that is created through a route is there, with its tags and a location that is served through the tracking server."""
    name = scratch.experiment()

    with signed_in(route, can_write) as client:
        experiment_id = client.create_experiment(name, tags={"team": "fraud"})

    with signed_in(*witness) as mlflow_itself:
        created = mlflow_itself.get_experiment(experiment_id)
    assert (created.name, created.lifecycle_stage, created.tags["team"]) == (name, "active", "fraud")
    assert created.artifact_location == f"mlflow-artifacts:/{experiment_id}"
