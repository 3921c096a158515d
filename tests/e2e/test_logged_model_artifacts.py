"""The files of logged models: uploaded, listed and downloaded through the tracking server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModel

from mlflow_proxy_e2e.clients import Rest, signed_in
from mlflow_proxy_e2e.target import Caller, Identity, Route

pytestmark = pytest.mark.capability("artifacts", "logged-models")

FILES: Mapping[str, bytes] = {
    "MLmodel": b"flavors: {}\n",
    "code/deep/größe.py": "größe = 1\n".encode(),
    "weights.bin": bytes(range(256)) * 64,
}
FOLDERS = ("code", "code/deep")
LISTED: Mapping[str, int | None] = {name: len(content) for name, content in FILES.items()} | dict.fromkeys(FOLDERS)


@pytest.fixture
def model(witness: Caller, experiment_id: str) -> LoggedModel:
    """Return a model of the test's own, without files."""
    with signed_in(*witness) as mlflow_itself:
        return mlflow_itself.create_logged_model(experiment_id)


@pytest.fixture
def model_with_files(witness: Caller, model: LoggedModel) -> LoggedModel:
    """Return a model of the test's own, which is ready and has the files above."""
    with Rest(*witness) as mlflow_itself:
        for name, content in FILES.items():
            mlflow_itself.put(_served(model, name), data=content).raise_for_status()
    with signed_in(*witness) as mlflow_itself:
        return mlflow_itself.finalize_logged_model(model.model_id, "READY")


@pytest.mark.since("3.14")  # as test_artifact_names
def test_upload_folder(route: Route, control: Identity, witness: Caller, model: LoggedModel, tmp_path: Path) -> None:
    """A model's folder is uploaded with the folders in it, to the byte, and no run is asked for."""
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)

    with signed_in(route, control) as client:
        client.log_model_artifacts(model.model_id, str(tmp_path))

    with Rest(*witness) as mlflow_itself:
        assert _held(mlflow_itself, model) == LISTED
        assert {name: mlflow_itself.get(_served(model, name)).content for name in FILES} == FILES


def test_upload_file(route: Route, control: Identity, witness: Caller, model_with_files: LoggedModel, tmp_path: Path) -> None:
    """A file that is added to a model stands beside those that there are."""
    (tmp_path / "card.md").write_text("Scores card payments.")

    with signed_in(route, control) as client:
        client.log_model_artifact(model_with_files.model_id, str(tmp_path / "card.md"))

    with Rest(*witness) as mlflow_itself:
        assert _held(mlflow_itself, model_with_files) == {**LISTED, "card.md": 21}


@pytest.mark.since("3.14")  # as test_artifact_names
def test_list_and_download(route: Route, control: Identity, model_with_files: LoggedModel, tmp_path: Path) -> None:
    """Whoever deploys a model sees its files, folders within folders, and has all of them by the model's name alone."""
    with signed_in(route, control) as client:
        # First, since a client that is always told of the same folders would walk down them for ever.
        assert _listed(client, model_with_files) == LISTED
        folder = Path(mlflow.artifacts.download_artifacts(f"models:/{model_with_files.model_id}", dst_path=str(tmp_path)))

    # The client adds a file of its own, which says under which name the model is registered.
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES


def _served(model: LoggedModel, name: str) -> str:
    """Return the path at which the tracking server serves a file of the model."""
    return f"/api/2.0/mlflow-artifacts/artifacts{model.artifact_location.removeprefix('mlflow-artifacts:')}/{quote(name)}"


def _listed(client: MlflowClient, model: LoggedModel) -> dict[str, int | None]:
    """Return the size of every file of the model, by name; folders have none."""
    entries = [entry for folder in (None, *FOLDERS) for entry in client.list_logged_model_artifacts(model.model_id, folder)]
    return {entry.path: None if entry.is_dir else entry.file_size for entry in entries}


def _held(mlflow_itself: Rest, model: LoggedModel) -> dict[str, int | None]:
    """Return the same as MLflow itself says it. The client in this process cannot: it goes on asking whom it asked first."""
    path = f"/api/2.0/mlflow/logged-models/{model.model_id}/artifacts/directories"
    answers = [mlflow_itself.get(path, params={"artifact_directory_path": folder}) for folder in ("", *FOLDERS)]
    entries = [entry for answer in answers for entry in answer.json().get("files", [])]
    return {entry["path"]: None if entry["is_dir"] else int(entry["file_size"]) for entry in entries}
