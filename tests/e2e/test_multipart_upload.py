"""Uploads in parts, where the artifact store accepts only whole files: MLflow says so, and its client sends the file whole."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import RunInfo

from mlflow_proxy_e2e.checks.denials import Refused, assert_denied
from mlflow_proxy_e2e.rest import Rest

pytestmark = pytest.mark.capability("artifacts", "whole-artifacts")

CREATE: Mapping[str, Any] = {"path": "weights.bin", "num_parts": 2}
STEPS = {
    "create": CREATE,
    "complete": {"path": "weights.bin", "upload_id": "none", "parts": [{"part_number": 1, "etag": "none"}]},
    "abort": {"path": "weights.bin", "upload_id": "none"},
}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Return a file of a megabyte."""
    file = tmp_path / "weights.bin"
    file.write_bytes(hashlib.shake_128(b"weights").digest(1_000_000))
    return file


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make MLflow's client try to upload files of any size in parts."""
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", "1")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("api", ["api", "ajax-api"])
@pytest.mark.capability("logged-models")  # the client looks for their artifacts, too
def test_step_is_answered_by_mlflow(step: str, api: str, rest: Rest, truth_rest: Rest, truth: MlflowClient, run: RunInfo) -> None:
    """Every step of an upload in parts gets MLflow's 501, word for word: the client relies on the words."""
    path = _step(run, step, api)

    expected, answer = (caller.post(path, json=STEPS[step]) for caller in (truth_rest, rest))

    assert (answer.status_code, answer.json()["error_code"]) == (501, "NOT_IMPLEMENTED")
    assert answer.content == expected.content
    assert _held(truth, run) == {}


@pytest.mark.usefixtures("in_parts")
@pytest.mark.capability("logged-models")  # the client looks for their artifacts, too
def test_client_falls_back(
    client: MlflowClient, truth: MlflowClient, truth_rest: Rest, run: RunInfo, weights: Path, requests_sent: list[str]
) -> None:
    """A client that tries to upload in parts, and is told that the store cannot, sends the file whole, and it arrives."""
    client.log_artifact(run.run_id, str(weights), "model")  # the client cannot write a Path in JSON
    sent = list(requests_sent)

    assert sent[-2:] == ["POST", "PUT"]  # what was tried first, and what was then done
    assert _held(truth, run) == {"model": None, "model/weights.bin": weights.stat().st_size}
    held = truth_rest.get(f"/api/2.0/mlflow-artifacts/artifacts{_served(run)}/model/weights.bin").content
    assert hashlib.sha256(held).hexdigest() == hashlib.sha256(weights.read_bytes()).hexdigest()


@pytest.mark.since("3.12")
def test_presigned_download_is_answered_by_mlflow(rest: Rest, truth_rest: Rest, run: RunInfo) -> None:
    """MLflow itself answers that files cannot be downloaded past the tracking server."""
    path = f"/api/2.0/mlflow-artifacts/presigned{_served(run)}/weights.bin"

    expected, answer = truth_rest.get(path), rest.get(path)

    assert (answer.status_code, answer.json()["error_code"]) == (501, "NOT_IMPLEMENTED")
    assert answer.content == expected.content


@pytest.mark.parametrize("step", STEPS)
def test_denied_step(step: str, rest: Rest, refused_writer: Refused, run: RunInfo) -> None:
    """An identity that may not write is refused for that reason at every step, before the call reaches MLflow."""
    path = _step(run, step)

    permitted, refused = (caller.post(path, json=STEPS[step]) for caller in (rest, refused_writer.rest))

    assert permitted.json()["error_code"] == "NOT_IMPLEMENTED"
    assert_denied(refused, refused_writer.denial)


def _step(run: RunInfo, step: str, api: str = "api") -> str:
    return f"/{api}/2.0/mlflow-artifacts/mpu/{step}{_served(run)}"


def _served(run: RunInfo) -> str:
    """Return the path of the run's artifacts."""
    return str(run.artifact_uri.removeprefix("mlflow-artifacts:"))


def _held(truth: MlflowClient, run: RunInfo) -> dict[str, int | None]:
    """Return the size of every artifact of the run, by name; folders have none."""
    entries = [entry for folder in (None, "model") for entry in truth.list_artifacts(run.run_id, folder)]
    return {entry.path: None if entry.is_dir else entry.file_size for entry in entries}
