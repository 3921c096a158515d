"""The files of logged models: uploaded, listed and downloaded through the tracking server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModel

from mlflow_proxy_e2e.rest import Rest

pytestmark = pytest.mark.capability("artifacts", "logged-models")

FILES: Mapping[str, bytes] = {
    "MLmodel": b"flavors: {}\n",
    "code/deep/größe.py": "größe = 1\n".encode(),
    "weights.bin": bytes(range(256)) * 64,
}
FOLDERS = ("code", "code/deep")
LISTED: Mapping[str, int | None] = {name: len(content) for name, content in FILES.items()} | dict.fromkeys(FOLDERS)


@pytest.fixture
def model(truth: MlflowClient, experiment_id: str) -> LoggedModel:
    """Return a model of the test's own, without files."""
    return truth.create_logged_model(experiment_id)


@pytest.fixture
def model_with_files(truth: MlflowClient, truth_rest: Rest, model: LoggedModel) -> LoggedModel:
    """Return a model of the test's own, ready, with the files above."""
    for name, content in FILES.items():
        truth_rest.put(_served(model, name), data=content).raise_for_status()
    return truth.finalize_logged_model(model.model_id, "READY")


@pytest.mark.since("3.14")  # as test_artifact_names
def test_upload_folder(client: MlflowClient, truth_rest: Rest, model: LoggedModel, tmp_path: Path) -> None:
    """A model's folder is uploaded with its subfolders, byte for byte, and without a run."""
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)

    client.log_model_artifacts(model.model_id, str(tmp_path))

    assert _stored(truth_rest, model) == LISTED
    assert {name: truth_rest.get(_served(model, name)).content for name in FILES} == FILES


def test_upload_file(client: MlflowClient, truth_rest: Rest, model_with_files: LoggedModel, tmp_path: Path) -> None:
    """A file can be added to a model, and its other files stay."""
    (tmp_path / "card.md").write_text("Scores card payments.")

    client.log_model_artifact(model_with_files.model_id, str(tmp_path / "card.md"))

    assert _stored(truth_rest, model_with_files) == {**LISTED, "card.md": 21}


@pytest.mark.since("3.14")  # as test_artifact_names
def test_list_and_download(signed_in_client: MlflowClient, model_with_files: LoggedModel, tmp_path: Path) -> None:
    """A model's files are listed, subfolders included, and all of them are downloaded by the model's id alone."""
    # First: if the listing always returned the same folders, the download would never end.
    assert _listed(signed_in_client, model_with_files) == LISTED
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{model_with_files.model_id}", dst_path=str(tmp_path)))

    # The client adds a file of its own, with the name under which the model is registered.
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES


def _served(model: LoggedModel, name: str) -> str:
    """Return the path at which the tracking server serves a file of the model."""
    return f"/api/2.0/mlflow-artifacts/artifacts{model.artifact_location.removeprefix('mlflow-artifacts:')}/{quote(name)}"


def _listed(client: MlflowClient, model: LoggedModel) -> dict[str, int | None]:
    """Return the size of every file of the model, by name; folders have none."""
    entries = [entry for folder in (None, *FOLDERS) for entry in client.list_logged_model_artifacts(model.model_id, folder)]
    return {entry.path: None if entry.is_dir else entry.file_size for entry in entries}


def _stored(truth_rest: Rest, model: LoggedModel) -> dict[str, int | None]:
    """Return the same as listed by MLflow itself: over HTTP, since MLflow's client keeps using its first route."""
    path = f"/api/2.0/mlflow/logged-models/{model.model_id}/artifacts/directories"
    answers = [truth_rest.get(path, params={"artifact_directory_path": folder}) for folder in ("", *FOLDERS)]
    entries = [entry for answer in answers for entry in answer.json().get("files", [])]
    return {entry["path"]: None if entry["is_dir"] else int(entry["file_size"]) for entry in entries}
