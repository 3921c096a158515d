"""Artifacts as MLflow's pages show them: those of a run, of a registered version and of a logged model."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

import pytest
import requests
from mlflow import MlflowClient
from mlflow.entities import RunInfo

from mlflow_proxy_e2e.rest import Rest
from mlflow_proxy_e2e.scratch import Scratch
from mlflow_proxy_e2e.target import Caller, Target

pytestmark = pytest.mark.capability("ui", "artifacts")

AJAX = "/ajax-api/2.0/mlflow"
FILES: Mapping[str, bytes] = {
    "MLmodel": b"flavors: {}\n",
    "code/deep/größe & 模型.txt": "Grüße,\r\n模型\n".encode(),
    "data/weights.bin": bytes(range(256)) * 64,
    "page.html": b"<script>alert(1)</script>",
}
FOLDERS = ("code", "code/deep", "data")
# {names} are filled in from ``kept``; the path of a file follows.
DOWNLOADS = [
    pytest.param("/get-artifact?run_id={run_id}&path=", id="run"),
    pytest.param(f"{AJAX}-artifacts/artifacts{{served}}/", id="served", marks=pytest.mark.since("3.17")),
    pytest.param(
        "/model-versions/get-artifact?name={model}&version=1&path=", id="version", marks=pytest.mark.capability("registry")
    ),
    pytest.param(
        f"{AJAX}/logged-models/{{logged_model_id}}/artifacts/files?artifact_file_path=",
        id="logged-model",
        marks=pytest.mark.capability("logged-models"),
    ),
]
# The path of a folder follows.
LISTINGS = [
    pytest.param("/api/2.0/mlflow/artifacts/list?run_id={run_id}&path=", id="run"),
    pytest.param(f"{AJAX}/artifacts/list?run_id={{run_id}}&path=", id="run-on-page"),
    pytest.param(
        f"{AJAX}/logged-models/{{logged_model_id}}/artifacts/directories?artifact_directory_path=",
        id="logged-model",
        marks=pytest.mark.capability("logged-models"),
    ),
]
# Headers by which a browser decides whether to show or to save a file, and under which name.
SAVED_BY = ("Content-Type", "Content-Disposition", "X-Content-Type-Options")


@pytest.fixture(scope="module")
def kept(target: Target, witness: Caller, truth: MlflowClient, shared_scratch: Scratch, experiment_id: str) -> Mapping[str, str]:
    """Return the names of the objects with the files above, of each kind that the target declares; no test changes them."""
    run = truth.create_run(experiment_id).info
    names = {"run_id": run.run_id, "served": _served(run.artifact_uri)}
    folders = [names["served"]]
    if "registry" in target.capabilities:
        names["model"] = shared_scratch.model()
        truth.create_registered_model(names["model"])
        truth.create_model_version(names["model"], run.artifact_uri, run.run_id, await_creation_for=0)
    if "logged-models" in target.capabilities:
        model = truth.create_logged_model(experiment_id)
        names["logged_model_id"] = model.model_id
        folders.append(_served(model.artifact_location))
    with Rest(*witness) as truth_rest:
        for folder, (name, content) in ((folder, file) for folder in folders for file in FILES.items()):
            truth_rest.put(f"{AJAX}-artifacts/artifacts{folder}/{quote(name)}", data=content).raise_for_status()
    return names


@pytest.mark.parametrize("path", DOWNLOADS)
def test_download(path: str, rest: Rest, truth_rest: Rest, kept: Mapping[str, str]) -> None:
    """A file is what MLflow holds, to the byte, and is saved under its own name instead of being run by the browser."""
    expected = {name: truth_rest.get(path.format(**kept) + quote(name)) for name in FILES}
    answers = {name: rest.get(path.format(**kept) + quote(name)) for name in FILES}

    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(FILES, 200)
    assert {name: answer.content for name, answer in answers.items()} == FILES
    assert all(answer.headers["Content-Disposition"].startswith("attachment") for answer in answers.values())
    assert {name: _saved_by(answer) for name, answer in answers.items()} == {
        name: _saved_by(answer) for name, answer in expected.items()
    }


@pytest.mark.parametrize("path", LISTINGS)
def test_list(path: str, rest: Rest, kept: Mapping[str, str]) -> None:
    """Nested folders are listed one at a time, with names and sizes."""
    found = _listed(rest, path.format(**kept))

    files = {name: len(content) for name, content in FILES.items()}
    assert found == files | dict.fromkeys(FOLDERS)


def test_download_part(rest: Rest, kept: Mapping[str, str]) -> None:
    """An interrupted download can be resumed: the rest arrives, and says which range it is."""
    path = DOWNLOADS[0].values[0]
    assert isinstance(path, str)

    answer = rest.get(path.format(**kept) + "data/weights.bin", headers={"Range": "bytes=16000-"})

    assert answer.status_code == 206
    assert answer.headers["Content-Range"] == "bytes 16000-16383/16384"
    assert answer.content == FILES["data/weights.bin"][16000:]


@pytest.mark.parametrize("path", DOWNLOADS)
@pytest.mark.since("3.17")
def test_unknown_artifact(path: str, rest: Rest, truth_rest: Rest, kept: Mapping[str, str]) -> None:
    """MLflow itself answers that a file does not exist, and names it."""
    expected, answer = (caller.get(path.format(**kept) + "nothing.txt") for caller in (truth_rest, rest))

    assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert answer.content == expected.content


@pytest.mark.since("3.17")
def test_folder_is_no_file(rest: Rest, truth_rest: Rest, kept: Mapping[str, str]) -> None:
    """MLflow itself answers that a folder cannot be downloaded as a file."""
    path = f"/get-artifact?run_id={kept['run_id']}&path=code"

    expected, answer = truth_rest.get(path), rest.get(path)

    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert answer.content == expected.content


def test_upload(rest: Rest, truth_rest: Rest, run: RunInfo) -> None:
    """Files that a page uploads are stored byte for byte, under the names in the query."""
    answers = [
        rest.post(f"{AJAX}/upload-artifact", params={"run_uuid": run.run_id, "path": name}, data=content)
        for name, content in FILES.items()
    ]

    assert [answer.status_code for answer in answers] == [200] * len(FILES)
    assert _held(truth_rest, run) == FILES


def test_upload_served(rest: Rest, truth_rest: Rest, run: RunInfo) -> None:
    """So are files uploaded where artifacts are served to pages, and a file that is deleted there is gone."""
    folder = f"{AJAX}-artifacts/artifacts{_served(run.artifact_uri)}"
    answers = [rest.put(f"{folder}/{quote(name)}", data=content) for name, content in FILES.items()]
    answers.append(rest.delete(f"{folder}/page.html"))

    assert [answer.status_code for answer in answers] == [200] * (len(FILES) + 1)
    assert _held(truth_rest, run) == {name: content for name, content in FILES.items() if name != "page.html"}


@pytest.mark.parametrize(
    ("name", "content"), [pytest.param("a.txt", b"", id="empty"), pytest.param("../a.txt", b"a", id="outside")]
)
def test_refused_upload(name: str, content: bytes, rest: Rest, truth_rest: Rest, run: RunInfo) -> None:
    """An upload that MLflow refuses gets MLflow's own reason, and nothing is stored."""
    upload = {"run_uuid": run.run_id, "path": name}

    expected, answer = (caller.post(f"{AJAX}/upload-artifact", params=upload, data=content) for caller in (truth_rest, rest))

    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert answer.content == expected.content
    assert _held(truth_rest, run) == {}


def _served(uri: str) -> str:
    """Return the path of the artifacts with this URI."""
    return uri.removeprefix("mlflow-artifacts:")


def _saved_by(answer: requests.Response) -> dict[str, str | None]:
    return {name: answer.headers.get(name) for name in SAVED_BY}


def _listed(caller: Rest, path: str) -> dict[str, int | None]:
    """Return the size of every artifact in the folders above, by name; folders have none."""
    answers = [caller.get(path + quote(folder)) for folder in ("", *FOLDERS)]
    assert {answer.status_code for answer in answers} == {200}
    entries = [entry for answer in answers for entry in answer.json().get("files", [])]
    # MLflow leaves out a size of 0.
    return {entry["path"]: None if entry["is_dir"] else int(entry.get("file_size", 0)) for entry in entries}


def _held(truth_rest: Rest, run: RunInfo) -> dict[str, bytes]:
    """Return what MLflow holds of the run in the folders above, by name."""
    found = _listed(truth_rest, f"{AJAX}/artifacts/list?run_id={run.run_id}&path=")
    files = [name for name, size in found.items() if size is not None]
    return {name: truth_rest.get(f"/get-artifact?run_id={run.run_id}&path={quote(name)}").content for name in files}
