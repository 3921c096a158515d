"""What must work for anybody to work at all, for every key and URL, in seconds: one honest path each, and the decisive denials."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import TraceState

from mlflow_proxy_e2e.checks import multiplier
from mlflow_proxy_e2e.checks.denials import assert_denied
from mlflow_proxy_e2e.clients import Rest, signed_in
from mlflow_proxy_e2e.scratch import Scratch
from mlflow_proxy_e2e.target import Caller, Identity, Route, Target

pytestmark = pytest.mark.smoke

SEARCH = "/api/2.0/mlflow/experiments/search"  # MLflow searches with POST: this is a read
SET_TAG = "/api/2.0/mlflow/experiments/set-experiment-tag"
NOTES = "Grüße,\n模型\n"
PARAMETERS, METRICS = {"depth": "3"}, {"loss": 0.25}


@pytest.fixture(scope="module")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with a model's files."""
    folder = tmp_path_factory.mktemp("model")
    multiplier.save(folder)
    return folder


@pytest.fixture(scope="module")
def finished_run(witness: Caller, experiment_id: str) -> str:
    """Return a run with parameters and metrics, for others to read."""
    with signed_in(*witness):
        return log_run(experiment_id)


@pytest.fixture(scope="module")
def run_with_notes(witness: Caller, finished_run: str) -> str:
    """Return a run with an artifact, for others to download."""
    with signed_in(*witness) as client:
        client.log_text(finished_run, NOTES, "notes.txt")
    return finished_run


@pytest.fixture(scope="module")
def registered_model(witness: Caller, experiment_id: str, shared_scratch: Scratch, model_files: Path) -> str:
    """Return the name of a model, for others to load."""
    name = shared_scratch.model()
    with signed_in(*witness):
        register(model_files, experiment_id, name)
    return name


@pytest.fixture(scope="module")
def trace_id(witness: Caller, experiment_id: str) -> str:
    """Return a trace, for others to read."""
    with signed_in(*witness) as client:
        return log_trace(client, experiment_id)


@pytest.mark.subject("experiments")
def test_create_experiment(route: Route, can_write: Identity, witness: Caller, shared_scratch: Scratch) -> None:
    """MLflow holds an experiment under the name with which it was created."""
    name = shared_scratch.experiment()

    with signed_in(route, can_write) as client:
        experiment_id = client.create_experiment(name)

    with signed_in(*witness) as mlflow_itself:
        assert mlflow_itself.get_experiment(experiment_id).name == name


@pytest.mark.subject("experiments")
def test_read_experiment(route: Route, can_only_read: Identity, experiment_id: str) -> None:
    """Whoever may only read sees another's experiment."""
    with signed_in(route, can_only_read) as client:
        assert client.get_experiment(experiment_id).experiment_id == experiment_id


@pytest.mark.subject("runs")
def test_log_run(route: Route, can_write: Identity, witness: Caller, experiment_id: str) -> None:
    """MLflow holds a run as finished, with the parameters and metrics that were logged in it."""
    with signed_in(route, can_write):
        run_id = log_run(experiment_id)

    with signed_in(*witness) as mlflow_itself:
        assert_logged(mlflow_itself, run_id)


@pytest.mark.subject("runs")
def test_read_run(route: Route, can_only_read: Identity, finished_run: str) -> None:
    """Whoever may only read sees another's run, with its parameters and metrics."""
    with signed_in(route, can_only_read) as client:
        assert_logged(client, finished_run)


@pytest.mark.subject("search")
def test_search_experiments(route: Route, can_read: Identity) -> None:
    """Whoever may read is answered: all that can be asked of a live system where no key may write."""
    with Rest(route, can_read) as rest:
        answer = rest.post(SEARCH, json={"max_results": 1})

    assert answer.status_code == 200
    assert set(answer.json()) <= {"experiments", "next_page_token"}


@pytest.mark.subject("search")
def test_search_runs(route: Route, can_read: Identity, experiment_id: str, finished_run: str) -> None:
    """Whoever may read finds a run by what was logged in it."""
    with signed_in(route, can_read) as client:
        found = client.search_runs([experiment_id], f"metrics.loss = 0.25 AND attributes.run_id = '{finished_run}'")

    assert [run.info.run_id for run in found] == [finished_run]


@pytest.mark.subject("artifacts")
@pytest.mark.capability("artifacts")
def test_upload_artifact(route: Route, can_write: Identity, finished_run: str, tmp_path: Path) -> None:
    """A file that was uploaded is downloaded with the same bytes."""
    file = f"{route}/{can_write}.txt"

    with signed_in(route, can_write) as client:
        client.log_text(finished_run, NOTES, file)
        downloaded = client.download_artifacts(finished_run, file, str(tmp_path))

    assert Path(downloaded).read_bytes() == NOTES.encode()


@pytest.mark.subject("artifacts")
@pytest.mark.capability("artifacts")
def test_download_artifact(route: Route, can_only_read: Identity, run_with_notes: str, tmp_path: Path) -> None:
    """Whoever may only read downloads another's file."""
    with signed_in(route, can_only_read) as client:
        downloaded = client.download_artifacts(run_with_notes, "notes.txt", str(tmp_path))

    assert Path(downloaded).read_bytes() == NOTES.encode()


@pytest.mark.subject("models")
@pytest.mark.capability("registry", "artifacts")
def test_register_model(route: Route, can_write: Identity, experiment_id: str, shared_scratch: Scratch, model_files: Path) -> None:
    """A model that was registered can be loaded, and predicts."""
    name = shared_scratch.model()

    with signed_in(route, can_write):
        register(model_files, experiment_id, name)
        loaded = mlflow.pyfunc.load_model(f"models:/{name}/1")

    assert loaded.predict([1, 2]) == [multiplier.FACTOR, 2 * multiplier.FACTOR]


@pytest.mark.subject("models")
@pytest.mark.capability("registry", "artifacts")
def test_load_model(route: Route, can_only_read: Identity, registered_model: str) -> None:
    """Whoever may only read loads another's model, and it predicts."""
    with signed_in(route, can_only_read):
        loaded = mlflow.pyfunc.load_model(f"models:/{registered_model}/1")

    assert loaded.predict([1, 2]) == [multiplier.FACTOR, 2 * multiplier.FACTOR]


@pytest.mark.subject("traces")
@pytest.mark.capability("traces")
def test_log_trace(route: Route, can_write: Identity, witness: Caller, experiment_id: str) -> None:
    """MLflow holds a trace with the spans that were logged."""
    with signed_in(route, can_write) as client:
        trace_id = log_trace(client, experiment_id)

    with signed_in(*witness) as mlflow_itself:
        assert_traced(mlflow_itself, trace_id)


@pytest.mark.subject("traces")
@pytest.mark.capability("traces")
def test_read_trace(route: Route, can_only_read: Identity, trace_id: str) -> None:
    """Whoever may only read sees another's trace, with its spans."""
    with signed_in(route, can_only_read) as client:
        assert_traced(client, trace_id)


@pytest.mark.subject("denied-read")
def test_denied_read(route: Route, cannot_read: Identity, target: Target) -> None:
    """Whoever may not read is refused, where the same call succeeds for somebody who may."""
    with Rest(route, target.who_may("read")[0]) as permitted:
        assert permitted.post(SEARCH, json={"max_results": 1}).status_code == 200

    with Rest(route, cannot_read) as refused:
        answer = refused.post(SEARCH, json={"max_results": 1})

    assert_denied(answer, target.contract.denial(cannot_read))


@pytest.mark.subject("denied-write")
def test_denied_write(
    route: Route, can_only_read: Identity, control: Identity, witness: Caller, experiment_id: str, target: Target
) -> None:
    """Whoever may only read is refused a write, where the same call succeeds for somebody who may; nothing is written."""
    key = f"by-{route}-{can_only_read}"
    tag = {"experiment_id": experiment_id, "key": key}
    with Rest(route, control) as permitted:
        assert permitted.post(SET_TAG, json={**tag, "value": "permitted"}).status_code == 200

    with Rest(route, can_only_read) as refused:
        answer = refused.post(SET_TAG, json={**tag, "value": "refused"})

    assert_denied(answer, target.contract.denial(can_only_read))
    with signed_in(*witness) as mlflow_itself:
        assert mlflow_itself.get_experiment(experiment_id).tags[key] == "permitted"


def log_run(experiment_id: str) -> str:
    """Log a run as who is signed in, and return its id."""
    with mlflow.start_run(experiment_id=experiment_id) as run:
        mlflow.log_params(PARAMETERS)
        mlflow.log_metrics(METRICS)
    return str(run.info.run_id)


def assert_logged(client: MlflowClient, run_id: str) -> None:
    """Assert that what ``log_run`` logged is there."""
    run = client.get_run(run_id)
    assert (run.data.params, run.data.metrics, run.info.status) == (PARAMETERS, METRICS, "FINISHED")


def register(files: Path, experiment_id: str, name: str) -> None:
    """Log a model's files in a run of its own, and register them, as who is signed in."""
    with mlflow.start_run(experiment_id=experiment_id) as run:
        mlflow.log_artifacts(str(files), "model")
    mlflow.register_model(f"runs:/{run.info.run_id}/model", name)


def log_trace(client: MlflowClient, experiment_id: str) -> str:
    """Log a trace of one span, and return its id."""
    trace_id: str = client.start_trace("answer", experiment_id=experiment_id).trace_id
    client.end_trace(trace_id)
    return trace_id


def assert_traced(client: MlflowClient, trace_id: str) -> None:
    """Assert that what ``log_trace`` logged is there."""
    trace = client.get_trace(trace_id)
    assert ([span.name for span in trace.data.spans], trace.info.state) == (["answer"], TraceState.OK)
