"""All routes lead to one MLflow: what one key writes through one of them, another key reads through the next."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from fixtures.options import TARGET
from mlflow_proxy_e2e.clients import signed_in
from mlflow_proxy_e2e.scratch import Scratch
from mlflow_proxy_e2e.target import Caller, Identity, Route, Target


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Have every test run once for each two routes, both ways round."""
    routes = sorted(metafunc.config.stash[TARGET].routes, key=str)
    pairs = [pytest.param(*pair, id="-then-".join(map(str, pair))) for pair in itertools.permutations(routes, 2)]
    single = pytest.param(None, None, id="single", marks=pytest.mark.skip("the target has a single route"))
    metafunc.parametrize(("first", "second"), pairs or [single])


@pytest.fixture(scope="session")
def another(target: Target, control: Identity) -> Identity:
    """Return somebody else who may read."""
    others = [identity for identity in target.who_may("read") if identity != control]
    if not others:
        pytest.skip("the target has a single identity that may read")
    return others[0]


def test_run(first: Route, second: Route, control: Identity, another: Identity, witness: Caller, scratch: Scratch) -> None:
    """A run and its experiment are the same from everywhere: metrics with their history, parameters and tags."""
    name = scratch.experiment()
    history = [Metric("loss", 0.5, 1000, 0), Metric("loss", 0.25, 2000, 1)]

    with signed_in(first, control) as client:
        experiment_id = client.create_experiment(name)
        run_id = client.create_run(experiment_id, run_name="nightly").info.run_id
        client.log_batch(run_id, history, [Param("depth", "3")], [RunTag("team", "fraud")])
        client.set_terminated(run_id)

    with signed_in(second, another) as client:
        found = _run(client, name)
    assert found == {
        "run_ids": [run_id],
        "name": "nightly",
        "status": "FINISHED",
        "loss": [(0.5, 1000, 0), (0.25, 2000, 1)],
        "params": {"depth": "3"},
        "team": "fraud",
    }
    with signed_in(*witness) as mlflow_itself:
        assert _run(mlflow_itself, name) == found


def _run(client: MlflowClient, experiment_name: str) -> dict[str, object]:
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
def test_artifact(
    first: Route, second: Route, control: Identity, another: Identity, witness: Caller, scratch: Scratch, tmp_path: Path
) -> None:
    """An artifact is the same from everywhere: the location that a run is given does not depend on the route."""
    content = bytes(range(256))
    (tmp_path / "weights.bin").write_bytes(content)

    with signed_in(first, control) as client:
        run_id = client.create_run(client.create_experiment(scratch.experiment())).info.run_id
        client.log_artifact(run_id, tmp_path / "weights.bin", "model")

    for who, caller in (("another", Caller(second, another)), ("witness", witness)):
        with signed_in(*caller) as client:
            folder = tmp_path / who
            folder.mkdir()
            assert Path(client.download_artifacts(run_id, "model/weights.bin", str(folder))).read_bytes() == content


@pytest.mark.capability("registry")
def test_registered_model(
    first: Route, second: Route, control: Identity, another: Identity, witness: Caller, scratch: Scratch
) -> None:
    """A registered model is the same from everywhere: its version, tags and alias."""
    name = scratch.model()

    with signed_in(first, control) as client:
        run = client.create_run(client.create_experiment(scratch.experiment())).info
        client.create_registered_model(name, tags={"team": "fraud"}, description="scores payments")
        client.create_model_version(name, f"{run.artifact_uri}/model", run.run_id, tags={"stage": "trial"}, await_creation_for=0)
        client.set_registered_model_alias(name, "champion", "1")

    with signed_in(second, another) as client:
        found = _champion(client, name)
    assert found == {
        "description": "scores payments",
        "team": "fraud",
        "version": "1",
        "run_id": run.run_id,
        "source": f"{run.artifact_uri}/model",
        "tags": {"stage": "trial"},
    }
    with signed_in(*witness) as mlflow_itself:
        assert _champion(mlflow_itself, name) == found


def _champion(client: MlflowClient, name: str) -> dict[str, object]:
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
