"""All routes lead to one MLflow: what one key writes through one route, another key reads through another."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from mlflow_proxy_e2e.clients import client_of
from mlflow_proxy_e2e.scratch import Scratch
from mlflow_proxy_e2e.stash import TARGET
from mlflow_proxy_e2e.target import Caller, Identity, Route, Target


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test once for each ordered pair of routes."""
    routes = sorted(metafunc.config.stash[TARGET].routes, key=str)
    pairs = [pytest.param(*pair, id="-then-".join(map(str, pair))) for pair in itertools.permutations(routes, 2)]
    single = pytest.param(None, None, id="single", marks=pytest.mark.skip("the target has a single route"))
    metafunc.parametrize(("first", "second"), pairs or [single])


@pytest.fixture
def writer(first: Route, control: Identity) -> MlflowClient:
    """Return an MLflow client of an identity that is allowed everything, on the first route."""
    return client_of(Caller(first, control))


@pytest.fixture
def other_reader(second: Route, target: Target, control: Identity) -> MlflowClient:
    """Return an MLflow client of another identity that may read, on the second route."""
    others = [identity for identity in target.who_may("read") if identity != control]
    if not others:
        pytest.skip("the target has a single identity that may read")
    return client_of(Caller(second, others[0]))


def test_run(writer: MlflowClient, other_reader: MlflowClient, truth: MlflowClient, scratch: Scratch) -> None:
    """A run and its experiment are the same on every route: metrics with their history, parameters and tags."""
    name = scratch.experiment()
    history = [Metric("loss", 0.5, 1000, 0), Metric("loss", 0.25, 2000, 1)]

    run_id = writer.create_run(writer.create_experiment(name), run_name="nightly").info.run_id
    writer.log_batch(run_id, history, [Param("depth", "3")], [RunTag("team", "fraud")])
    writer.set_terminated(run_id)

    found = _run(other_reader, name)
    assert found == {
        "run_ids": [run_id],
        "name": "nightly",
        "status": "FINISHED",
        "loss": [(0.5, 1000, 0), (0.25, 2000, 1)],
        "params": {"depth": "3"},
        "team": "fraud",
    }
    assert _run(truth, name) == found


def _run(client: MlflowClient, experiment_name: str) -> dict[str, Any]:
    """Return what the client sees of an experiment's runs, and of its only run."""
    experiment = client.get_experiment_by_name(experiment_name)
    assert experiment
    runs = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(runs[0].info.run_id, "loss")
    return {
        "run_ids": [run.info.run_id for run in runs],
        "name": runs[0].info.run_name,
        "status": runs[0].info.status,
        "loss": [(metric.value, metric.timestamp, metric.step) for metric in history],
        "params": runs[0].data.params,
        "team": runs[0].data.tags["team"],
    }


@pytest.mark.capability("artifacts")
def test_artifact(writer: MlflowClient, other_reader: MlflowClient, truth: MlflowClient, scratch: Scratch, tmp_path: Path) -> None:
    """An artifact is the same on every route: the location that a run is given does not depend on the route."""
    content = bytes(range(256))
    (tmp_path / "weights.bin").write_bytes(content)

    run_id = writer.create_run(writer.create_experiment(scratch.experiment())).info.run_id
    writer.log_artifact(run_id, tmp_path / "weights.bin", "model")

    for name, client in (("other-reader", other_reader), ("truth", truth)):
        folder = tmp_path / name
        folder.mkdir()
        assert Path(client.download_artifacts(run_id, "model/weights.bin", str(folder))).read_bytes() == content


@pytest.mark.capability("registry")
def test_registered_model(writer: MlflowClient, other_reader: MlflowClient, truth: MlflowClient, scratch: Scratch) -> None:
    """A registered model is the same on every route: its version, tags and alias."""
    name = scratch.model()

    run = writer.create_run(writer.create_experiment(scratch.experiment())).info
    writer.create_registered_model(name, tags={"team": "fraud"}, description="scores payments")
    writer.create_model_version(name, f"{run.artifact_uri}/model", run.run_id, tags={"stage": "trial"}, await_creation_for=0)
    writer.set_registered_model_alias(name, "champion", "1")

    found = _champion(other_reader, name)
    assert found == {
        "description": "scores payments",
        "team": "fraud",
        "version": "1",
        "run_id": run.run_id,
        "source": f"{run.artifact_uri}/model",
        "tags": {"stage": "trial"},
    }
    assert _champion(truth, name) == found


def _champion(client: MlflowClient, name: str) -> dict[str, Any]:
    """Return what the client sees of a registered model and of its version with the alias "champion"."""
    model = client.get_registered_model(name)
    version = client.get_model_version_by_alias(name, "champion")
    return {
        "description": model.description,
        "team": model.tags["team"],
        "version": str(version.version),
        "run_id": version.run_id,
        "source": version.source,
        "tags": version.tags,
    }
