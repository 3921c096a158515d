"""Uploads in parts, where the artifact store takes whole files only: that is said, and the client goes by it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import RunInfo

from mlflow_proxy_e2e.checks.denials import assert_denied
from mlflow_proxy_e2e.clients import Rest, signed_in
from mlflow_proxy_e2e.target import Caller, Identity, Route, Target

pytestmark = pytest.mark.capability("artifacts", "whole-artifacts")

CREATE: Mapping[str, Any] = {"path": "weights.bin", "num_parts": 2}
STEPS = {
    "create": CREATE,
    "complete": {"path": "weights.bin", "upload_id": "none", "parts": [{"part_number": 1, "etag": "none"}]},
    "abort": {"path": "weights.bin", "upload_id": "none"},
}


@pytest.fixture
def run(witness: Caller, experiment_id: str) -> RunInfo:
    """Return a run without artifacts."""
    with signed_in(*witness) as mlflow_itself:
        return mlflow_itself.create_run(experiment_id).info


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have MLflow's client try to upload files of any size in parts."""
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", "1")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("api", ["api", "ajax-api"])
@pytest.mark.capability("logged-models")  # the client looks for their artifacts, too
def test_step_is_answered_by_mlflow(step: str, api: str, route: Route, control: Identity, witness: Caller, run: RunInfo) -> None:
    """Every step of an upload in parts is answered with MLflow's 501, word for word: the client goes by the words."""
    path = _step(run, step, api)

    with Rest(*witness) as mlflow_itself, Rest(route, control) as rest:
        expected, answer = (caller.post(path, json=STEPS[step]) for caller in (mlflow_itself, rest))

    assert (answer.status_code, answer.json()["error_code"]) == (501, "NOT_IMPLEMENTED")
    assert answer.content == expected.content
    assert _held(witness, run) == {}


@pytest.mark.usefixtures("in_parts")
@pytest.mark.capability("logged-models")  # the client looks for their artifacts, too
def test_client_falls_back(
    route: Route, control: Identity, witness: Caller, run: RunInfo, requests_sent: list[str], tmp_path: Path
) -> None:
    """A client that is told to upload in parts, and is told that it cannot be, sends the file whole: it arrives so."""
    content = hashlib.shake_128(b"weights").digest(1_000_000)
    file = tmp_path / "weights.bin"
    file.write_bytes(content)

    with signed_in(route, control) as client:
        client.log_artifact(run.run_id, str(file), "model")  # a Path is more than the client can say of it in JSON
    sent = list(requests_sent)

    assert sent[-2:] == ["POST", "PUT"]  # what was tried first, and what was then done
    assert _held(witness, run) == {"model": None, "model/weights.bin": len(content)}
    with Rest(*witness) as mlflow_itself:
        held = mlflow_itself.get(f"/api/2.0/mlflow-artifacts/artifacts{_served(run)}/model/weights.bin").content
    assert hashlib.sha256(held).hexdigest() == hashlib.sha256(content).hexdigest()


@pytest.mark.since("3.12")
def test_presigned_download_is_answered_by_mlflow(route: Route, control: Identity, witness: Caller, run: RunInfo) -> None:
    """Who would download past the tracking server is told by MLflow that there is no other way."""
    path = f"/api/2.0/mlflow-artifacts/presigned{_served(run)}/weights.bin"

    with Rest(*witness) as mlflow_itself, Rest(route, control) as rest:
        expected, answer = mlflow_itself.get(path), rest.get(path)

    assert (answer.status_code, answer.json()["error_code"]) == (501, "NOT_IMPLEMENTED")
    assert answer.content == expected.content


@pytest.mark.parametrize("step", STEPS)
def test_denied_step(step: str, route: Route, control: Identity, cannot_write: Identity, target: Target, run: RunInfo) -> None:
    """Who may not write is refused for that reason, at every step, before MLflow is asked for any."""
    path = _step(run, step)

    with Rest(route, control) as permitted, Rest(route, cannot_write) as rest:
        told, answer = (caller.post(path, json=STEPS[step]) for caller in (permitted, rest))

    assert told.json()["error_code"] == "NOT_IMPLEMENTED"
    assert_denied(answer, target.contract.denial(cannot_write))


def _step(run: RunInfo, step: str, api: str = "api") -> str:
    return f"/{api}/2.0/mlflow-artifacts/mpu/{step}{_served(run)}"


def _served(run: RunInfo) -> str:
    """Return where among all artifacts those of the run are served."""
    return str(run.artifact_uri.removeprefix("mlflow-artifacts:"))


def _held(witness: Caller, run: RunInfo) -> dict[str, int | None]:
    """Return the size of every artifact of the run, by name; folders have none."""
    with signed_in(*witness) as mlflow_itself:
        entries = [entry for folder in (None, "model") for entry in mlflow_itself.list_artifacts(run.run_id, folder)]
    return {entry.path: None if entry.is_dir else entry.file_size for entry in entries}
