"""Artifacts: uploaded, listed, downloaded and deleted through the tracking server, whatever they hold and are called."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import RunInfo

from mlflow_proxy_e2e.clients import Rest, signed_in
from mlflow_proxy_e2e.target import Caller, Identity, Route

pytestmark = pytest.mark.capability("artifacts")

CONTENTS = {"binary": bytes(range(256)) * 64, "empty": b"", "text": "Grüße,\r\n模型\n".encode()}
content = pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())

# Names as they are sent, and as MLflow then stores them. What is escaped, and what is not, is the client's to choose.
NAMES = {
    "space": ("two%20words.txt", "two words.txt"),
    "unicode": ("gr%C3%BC%C3%9Fe-%E6%A8%A1%E5%9E%8B.txt", "grüße-模型.txt"),
    "plus": ("one+two.txt", "one+two.txt"),
    "escaped-plus": ("one%2Btwo.txt", "one+two.txt"),
    "percent": ("100%25.txt", "100%.txt"),
    "escaped-percent-20": ("two%2520words.txt", "two words.txt"),  # MLflow itself decodes until there is nothing left to decode
    "question-mark": ("why%3F.txt", "why?.txt"),
    "semicolon": ("one;two.txt", "one;two.txt"),
}


@pytest.fixture
def run(witness: Caller, experiment_id: str) -> RunInfo:
    """Return a run without artifacts."""
    with signed_in(*witness) as mlflow_itself:
        return mlflow_itself.create_run(experiment_id).info


def served(run: RunInfo, name: str) -> str:
    """Return the path at which the tracking server serves an artifact of the run. ``name`` is escaped as it is to be sent."""
    return f"/api/2.0/mlflow-artifacts/artifacts{run.artifact_uri.removeprefix('mlflow-artifacts:')}/{name}"


def listed(client: MlflowClient, run: RunInfo, folder: str | None = None) -> dict[str, int | None]:
    """Return the size of every artifact in the folder and below it, by name; folders have none."""
    found: dict[str, int | None] = {}
    for entry in client.list_artifacts(run.run_id, folder):
        assert folder is None or entry.path.startswith(f"{folder}/")  # or the way down would have no end
        found[entry.path] = None if entry.is_dir else entry.file_size or 0  # MLflow leaves out a size of 0
        if entry.is_dir:
            found |= listed(client, run, entry.path)
    return found


@content
def test_upload(content: bytes, route: Route, can_write: Identity, witness: Caller, run: RunInfo, tmp_path: Path) -> None:
    """What is uploaded is what MLflow holds, to the byte, also where there is not one byte."""
    file = tmp_path / "model.bin"
    file.write_bytes(content)

    with signed_in(route, can_write) as client:
        client.log_artifact(run.run_id, file)

    with signed_in(*witness) as mlflow_itself:
        assert listed(mlflow_itself, run) == {"model.bin": len(content)}
    with Rest(*witness) as mlflow_itself:
        assert mlflow_itself.get(served(run, "model.bin")).content == content


@content
def test_download(content: bytes, route: Route, can_read: Identity, witness: Caller, run: RunInfo, tmp_path: Path) -> None:
    """What MLflow holds is what is downloaded, to the byte, also where there is not one byte."""
    with Rest(*witness) as mlflow_itself:
        mlflow_itself.put(served(run, "model.bin"), data=content).raise_for_status()

    with signed_in(route, can_read) as client:
        downloaded = client.download_artifacts(run.run_id, "model.bin", str(tmp_path))

    assert Path(downloaded).read_bytes() == content


@pytest.mark.capability("logged-models")  # the client looks for their artifacts, too
def test_upload_folder(route: Route, can_write: Identity, witness: Caller, run: RunInfo, tmp_path: Path) -> None:
    """A folder is uploaded with the folders in it."""
    (tmp_path / "model" / "code").mkdir(parents=True)
    (tmp_path / "model" / "MLmodel").write_bytes(b"flavors: {}\n")
    (tmp_path / "model" / "code" / "train.py").write_bytes(b"pass\n")

    with signed_in(route, can_write) as client:
        client.log_artifacts(run.run_id, str(tmp_path / "model"), "final/model")

    with signed_in(*witness) as mlflow_itself:
        assert listed(mlflow_itself, run) == {
            "final": None,
            "final/model": None,
            "final/model/MLmodel": 12,
            "final/model/code": None,
            "final/model/code/train.py": 5,
        }


@pytest.mark.capability("logged-models")  # the client looks for their artifacts, too
def test_list_and_download_folder(route: Route, can_read: Identity, witness: Caller, run: RunInfo, tmp_path: Path) -> None:
    """A folder is listed with names and sizes, and downloaded with all that is in it and nothing of what is beside it."""
    with Rest(*witness) as mlflow_itself:
        for name, text in (("model/MLmodel", b"flavors: {}\n"), ("model/code/train.py", b"pass\n"), ("notes.txt", b"beside")):
            mlflow_itself.put(served(run, name), data=text).raise_for_status()

    with signed_in(route, can_read) as client:
        assert listed(client, run, "model") == {"model/MLmodel": 12, "model/code": None, "model/code/train.py": 5}
        client.download_artifacts(run.run_id, "model", str(tmp_path))

    files = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"model/MLmodel": b"flavors: {}\n", "model/code/train.py": b"pass\n"}


@pytest.mark.capability("logged-models")  # the client looks for their artifacts, too
def test_delete_artifact(route: Route, can_write: Identity, witness: Caller, run: RunInfo) -> None:
    """An artifact that is deleted is gone, and its neighbour is not."""
    with Rest(*witness) as mlflow_itself:
        for name in ("model/old.bin", "model/new.bin"):
            mlflow_itself.put(served(run, name), data=b"weights").raise_for_status()

    with Rest(route, can_write) as caller:
        answer = caller.delete(served(run, "model/old.bin"))

    assert answer.status_code == 200
    with signed_in(*witness) as mlflow_itself:
        assert listed(mlflow_itself, run) == {"model": None, "model/new.bin": 7}


@pytest.mark.parametrize(
    ("sent", "stored"),
    # MLflow before 3.14 fails where a file's name is not Latin.
    [pytest.param(*names, id=name, marks=pytest.mark.since("3.14") if name == "unicode" else ()) for name, names in NAMES.items()],
)
def test_name(sent: str, stored: str, route: Route, control: Identity, witness: Caller, run: RunInfo) -> None:
    """An artifact is stored under the very name that was sent, is listed under it, and is had again by it."""
    with Rest(route, control) as caller:
        uploaded = caller.put(served(run, sent), data=stored.encode())
        downloaded = caller.get(served(run, sent))
    with signed_in(route, control) as client:
        shown = listed(client, run)

    assert uploaded.status_code == 200
    # What mangles names may do so on the way in and on the way out alike: what counts is what MLflow itself lists.
    with signed_in(*witness) as mlflow_itself:
        assert listed(mlflow_itself, run) == {stored: len(stored.encode())}
    assert shown == {stored: len(stored.encode())}
    assert (downloaded.status_code, downloaded.content) == (200, stored.encode())


class LargeFile:
    """A hundred megabytes that are never in memory at once; no two blocks are alike, so that none can be lost or moved unseen."""

    block = 1_000_000
    blocks = 100

    def __init__(self) -> None:
        self.checksum = hashlib.sha256()

    def __len__(self) -> int:
        return self.block * self.blocks

    def __iter__(self) -> Iterator[bytes]:
        for number in range(self.blocks):
            block = hashlib.shake_128(number.to_bytes(1, "big")).digest(self.block)
            self.checksum.update(block)
            yield block


@pytest.fixture
def large_file(witness: Caller, run: RunInfo) -> Iterator[str]:
    """Return the path of an artifact that does not stay: a deleted experiment keeps its artifacts."""
    path = served(run, "large.bin")
    yield path
    with Rest(*witness) as mlflow_itself:
        mlflow_itself.delete(path).raise_for_status()


@pytest.mark.capability("large-bodies")
@pytest.mark.since("3.8")  # older ones send a file line by line, which takes minutes
def test_large_file(route: Route, control: Identity, witness: Caller, run: RunInfo, large_file: str) -> None:
    """A hundred megabytes arrive whole, and come back the same."""
    sent, received = LargeFile(), hashlib.sha256()

    with Rest(route, control) as caller:
        uploaded = caller.put(large_file, data=sent)
        with caller.get(large_file, stream=True) as downloaded:
            for block in downloaded.iter_content(LargeFile.block):
                received.update(block)

    assert (uploaded.status_code, downloaded.status_code) == (200, 200)
    with signed_in(*witness) as mlflow_itself:
        assert listed(mlflow_itself, run) == {"large.bin": len(sent)}
    assert received.hexdigest() == sent.checksum.hexdigest()
