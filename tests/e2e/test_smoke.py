"""The essentials, in seconds: for every key and URL, the main calls and the most important denials."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Param, RunTag, TraceState

from mlflow_proxy_e2e.checks import multiplier
from mlflow_proxy_e2e.checks.denials import Refused, assert_denied
from mlflow_proxy_e2e.clients import client_of, signed_in
from mlflow_proxy_e2e.rest import Rest
from mlflow_proxy_e2e.scratch import Scratch
from mlflow_proxy_e2e.target import Caller, Identity, Route, Target

pytestmark = pytest.mark.smoke

SEARCH = "/api/2.0/mlflow/experiments/search"  # MLflow searches with POST: this is a read
SET_TAG = "/api/2.0/mlflow/experiments/set-experiment-tag"
NOTES = "Grüße,\n模型\n"
PARAMETERS, METRICS = {"depth": "3"}, {"loss": 0.25}
ALL_BYTES = bytes(range(256))
# A space in a name, and extensions that firewalls take for logs, databases, configuration, backups and private keys.
FILE_NAMES = ("first epoch.log", "features.db", "train.conf", "model.bak", "index.key")
LARGE = "x" * 6000  # as many characters as MLflow accepts in a parameter
MANY = 20  # such parameters make a body of 120 kB, more than many firewalls inspect or let through
# Firewalls take it for cross-site scripting, path traversal and SQL injection. To MLflow, it is just text.
LIKE_AN_ATTACK = "<script>alert(1)</script> ../../etc/passwd 1 OR 1=1; DROP TABLE runs; --"


@pytest.fixture(scope="module")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with a model's files."""
    folder = tmp_path_factory.mktemp("model")
    multiplier.save(folder)
    return folder


@pytest.fixture(scope="module")
def finished_run(target: Target, experiment_id: str) -> str:
    """Return a run with parameters and metrics, for others to read."""
    with signed_in(*target.truth):
        return log_run(experiment_id)


@pytest.fixture(scope="module")
def run_with_notes(truth: MlflowClient, finished_run: str) -> str:
    """Return a run with an artifact, for others to download."""
    truth.log_text(finished_run, NOTES, "notes.txt")
    return finished_run


@pytest.fixture(scope="module")
def registered_model(target: Target, experiment_id: str, shared_scratch: Scratch, model_files: Path) -> str:
    """Return the name of a model, for others to load."""
    name = shared_scratch.model()
    with signed_in(*target.truth):
        register(model_files, experiment_id, name)
    return name


@pytest.fixture(scope="module")
def trace_id(target: Target, experiment_id: str) -> str:
    """Return a trace, for others to read."""
    with signed_in(*target.truth) as client:
        return log_trace(client, experiment_id)


@pytest.fixture
def as_read_only(route: Route, can_only_read: Identity) -> MlflowClient:
    """Return an MLflow client of each identity that may read and not write, on each route."""
    return client_of(Caller(route, can_only_read))


@pytest.fixture
def read_only(route: Route, can_only_read: Identity, target: Target) -> Iterator[Refused]:
    """Return each identity that may read and not write, on each route, and how it must be refused."""
    with Rest(route, can_only_read) as rest:
        yield Refused(rest, target.contract.denial(can_only_read))


@pytest.fixture
def permitted_reader(route: Route, target: Target) -> Iterator[Rest]:
    """Return an HTTP session of an identity that may read, on each route: also where nobody may write."""
    with Rest(route, target.who_may("read")[0]) as rest:
        yield rest


@pytest.mark.subject("experiments")
def test_create_experiment(as_writer: MlflowClient, truth: MlflowClient, shared_scratch: Scratch) -> None:
    """MLflow holds an experiment under the name it was created with."""
    name = shared_scratch.experiment()

    experiment_id = as_writer.create_experiment(name)

    assert truth.get_experiment(experiment_id).name == name


@pytest.mark.subject("experiments")
def test_read_experiment(as_read_only: MlflowClient, experiment_id: str) -> None:
    """A key that may only read sees another's experiment."""
    assert as_read_only.get_experiment(experiment_id).experiment_id == experiment_id


@pytest.mark.subject("runs")
@pytest.mark.usefixtures("signed_in_writer")
def test_log_run(truth: MlflowClient, experiment_id: str) -> None:
    """MLflow holds a run as finished, with the parameters and metrics that were logged in it."""
    run_id = log_run(experiment_id)

    assert_logged(truth, run_id)


@pytest.mark.subject("runs")
def test_log_large_batch(as_writer: MlflowClient, truth: MlflowClient, experiment_id: str) -> None:
    """MLflow stores the parameters of a batch whose body is larger than 100 kB."""
    run_id = truth.create_run(experiment_id).info.run_id
    parameters = {f"p{number}": LARGE for number in range(MANY)}

    as_writer.log_batch(run_id, params=[Param(*parameter) for parameter in parameters.items()])

    assert truth.get_run(run_id).data.params == parameters


@pytest.mark.subject("runs")
def test_log_text_like_an_attack(as_writer: MlflowClient, truth: MlflowClient, experiment_id: str) -> None:
    """MLflow stores a parameter, a tag and a note as written, although they look like attacks."""
    run_id = truth.create_run(experiment_id).info.run_id
    tags = {"comment": LIKE_AN_ATTACK, "mlflow.note.content": LIKE_AN_ATTACK}

    as_writer.log_batch(run_id, params=[Param("text", LIKE_AN_ATTACK)], tags=[RunTag(*tag) for tag in tags.items()])

    data = truth.get_run(run_id).data
    assert (data.params, {key: data.tags[key] for key in tags}) == ({"text": LIKE_AN_ATTACK}, tags)


@pytest.mark.subject("runs")
def test_read_run(as_read_only: MlflowClient, finished_run: str) -> None:
    """A key that may only read sees another's run, with its parameters and metrics."""
    assert_logged(as_read_only, finished_run)


@pytest.mark.subject("search")
def test_search_experiments(reader_rest: Rest) -> None:
    """A key that may read gets an answer: the most that can be tested on a live system where no key may write."""
    answer = reader_rest.post(SEARCH, json={"max_results": 1})

    assert answer.status_code == 200
    assert set(answer.json()) <= {"experiments", "next_page_token"}


@pytest.mark.subject("search")
def test_search_for_text_like_an_attack(reader_rest: Rest) -> None:
    """A search for a name that looks like an attack is answered: there is no such experiment."""
    answer = reader_rest.post(SEARCH, json={"filter": f"name = '{LIKE_AN_ATTACK}'", "max_results": 1})

    assert (answer.status_code, answer.json()) == (200, {})


@pytest.mark.subject("search")
def test_search_runs(as_reader: MlflowClient, experiment_id: str, finished_run: str) -> None:
    """A key that may read finds a run by what was logged in it."""
    found = as_reader.search_runs([experiment_id], f"metrics.loss = 0.25 AND attributes.run_id = '{finished_run}'")

    assert [run.info.run_id for run in found] == [finished_run]


@pytest.mark.subject("artifacts")
@pytest.mark.capability("artifacts")
def test_upload_artifacts(as_writer: MlflowClient, truth: MlflowClient, finished_run: str, tmp_path: Path) -> None:
    """Uploaded files are stored under their own names and downloaded with the same bytes, whatever the names and bytes are."""
    folder, sent, received = uuid.uuid4().hex, tmp_path / "sent", tmp_path / "received"
    sent.mkdir()
    for name in FILE_NAMES:
        (sent / name).write_bytes(ALL_BYTES)

    as_writer.log_artifacts(finished_run, str(sent), folder)
    downloaded = Path(as_writer.download_artifacts(finished_run, folder, str(received)))

    assert {file.path for file in truth.list_artifacts(finished_run, folder)} == {f"{folder}/{name}" for name in FILE_NAMES}
    assert {file.name: file.read_bytes() for file in downloaded.iterdir()} == dict.fromkeys(FILE_NAMES, ALL_BYTES)


@pytest.mark.subject("artifacts")
@pytest.mark.capability("artifacts")
def test_download_artifact(as_read_only: MlflowClient, run_with_notes: str, tmp_path: Path) -> None:
    """A key that may only read downloads another's file."""
    downloaded = as_read_only.download_artifacts(run_with_notes, "notes.txt", str(tmp_path))

    assert Path(downloaded).read_bytes() == NOTES.encode()


@pytest.mark.subject("models")
@pytest.mark.capability("registry", "artifacts")
@pytest.mark.usefixtures("signed_in_writer")
def test_register_model(experiment_id: str, shared_scratch: Scratch, model_files: Path) -> None:
    """A registered model can be loaded, and predicts."""
    name = shared_scratch.model()

    register(model_files, experiment_id, name)
    loaded = mlflow.pyfunc.load_model(f"models:/{name}/1")

    assert loaded.predict([1, 2]) == [multiplier.FACTOR, 2 * multiplier.FACTOR]


@pytest.mark.subject("models")
@pytest.mark.capability("registry", "artifacts")
def test_load_model(route: Route, can_only_read: Identity, registered_model: str) -> None:
    """A key that may only read loads another's model, and it predicts."""
    with signed_in(route, can_only_read):
        loaded = mlflow.pyfunc.load_model(f"models:/{registered_model}/1")

    assert loaded.predict([1, 2]) == [multiplier.FACTOR, 2 * multiplier.FACTOR]


@pytest.mark.subject("traces")
@pytest.mark.capability("traces")
def test_log_trace(signed_in_writer: MlflowClient, truth: MlflowClient, experiment_id: str) -> None:
    """MLflow holds a trace with the spans that were logged."""
    trace_id = log_trace(signed_in_writer, experiment_id)

    assert_traced(truth, trace_id)


@pytest.mark.subject("traces")
@pytest.mark.capability("traces")
def test_log_large_trace(signed_in_writer: MlflowClient, truth: MlflowClient, experiment_id: str) -> None:
    """MLflow stores a trace with an input of more than 100 kB, like prompts that contain documents."""
    trace_id = log_trace(signed_in_writer, experiment_id, MANY * LARGE)

    assert_traced(truth, trace_id, MANY * LARGE)


@pytest.mark.subject("traces")
@pytest.mark.capability("traces")
def test_read_trace(as_read_only: MlflowClient, trace_id: str) -> None:
    """A key that may only read sees another's trace, with its spans."""
    assert_traced(as_read_only, trace_id)


@pytest.mark.subject("denied-read")
def test_denied_read(permitted_reader: Rest, refused_reader: Refused) -> None:
    """A key that may not read is refused, and the same call succeeds for one that may."""
    assert permitted_reader.post(SEARCH, json={"max_results": 1}).status_code == 200

    answer = refused_reader.rest.post(SEARCH, json={"max_results": 1})

    assert_denied(answer, refused_reader.denial)


@pytest.mark.subject("denied-write")
def test_denied_write(rest: Rest, read_only: Refused, truth: MlflowClient, experiment_id: str) -> None:
    """A key that may only read is refused a write, which succeeds for one that may write; nothing is written."""
    key = uuid.uuid4().hex
    tag = {"experiment_id": experiment_id, "key": key}
    assert rest.post(SET_TAG, json={**tag, "value": "permitted"}).status_code == 200

    answer = read_only.rest.post(SET_TAG, json={**tag, "value": "refused"})

    assert_denied(answer, read_only.denial)
    assert truth.get_experiment(experiment_id).tags[key] == "permitted"


def log_run(experiment_id: str) -> str:
    """Log a run as the identity that is signed in, and return its id."""
    with mlflow.start_run(experiment_id=experiment_id) as run:
        mlflow.log_params(PARAMETERS)
        mlflow.log_metrics(METRICS)
    return str(run.info.run_id)


def assert_logged(client: MlflowClient, run_id: str) -> None:
    """Assert that the run of ``log_run`` has everything."""
    run = client.get_run(run_id)
    assert (run.data.params, run.data.metrics, run.info.status) == (PARAMETERS, METRICS, "FINISHED")


def register(files: Path, experiment_id: str, name: str) -> None:
    """Log a model's files in a new run, and register them, as the identity that is signed in."""
    with mlflow.start_run(experiment_id=experiment_id) as run:
        mlflow.log_artifacts(str(files), "model")
    mlflow.register_model(f"runs:/{run.info.run_id}/model", name)


def log_trace(client: MlflowClient, experiment_id: str, question: str = NOTES) -> str:
    """Log a trace of one span, and return its id."""
    trace_id: str = client.start_trace("answer", inputs={"question": question}, experiment_id=experiment_id).trace_id
    client.end_trace(trace_id)
    return trace_id


def assert_traced(client: MlflowClient, trace_id: str, question: str = NOTES) -> None:
    """Assert that the trace of ``log_trace`` has everything."""
    trace = client.get_trace(trace_id)
    spans = [(span.name, span.inputs) for span in trace.data.spans]
    assert (spans, trace.info.state) == ([("answer", {"question": question})], TraceState.OK)
