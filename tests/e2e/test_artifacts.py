"""Artifacts: uploaded, listed, downloaded and deleted through the tracking server, whatever their content and names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient
from mlflow.entities import RunInfo

from mlflow_proxy_e2e.checks.denials import assert_denied
from mlflow_proxy_e2e.rest import Rest
from mlflow_proxy_e2e.target import Route, Target

pytestmark = pytest.mark.capability("artifacts")

CONTENTS = {"binary": bytes(range(256)) * 64, "empty": b"", "text": "Grüße,\r\n模型\n".encode()}
content = pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())

KEPT_BY_SOME = tuple(f"file.{ending}" for ending in ("bin", "csv", "png", "zip"))  # content delivery networks cache such files
PAGE = b"""<!doctype html>
<html><head><title>Report</title><script src="plot.js"></script></head>
<body><!-- written by a tool --><a href="mailto:someone@example.com">someone@example.com</a></body></html>
"""

# Names as sent, and as MLflow then stores them. Which characters to escape is up to the client.
NAMES = {
    "space": ("two%20words.txt", "two words.txt"),
    "unicode": ("gr%C3%BC%C3%9Fe-%E6%A8%A1%E5%9E%8B.txt", "grüße-模型.txt"),
    "plus": ("one+two.txt", "one+two.txt"),
    "escaped-plus": ("one%2Btwo.txt", "one+two.txt"),
    "percent": ("100%25.txt", "100%.txt"),
    "escaped-percent-20": ("two%2520words.txt", "two words.txt"),  # MLflow itself decodes until nothing is left to decode
    "question-mark": ("why%3F.txt", "why?.txt"),
    "semicolon": ("one;two.txt", "one;two.txt"),
}


@pytest.fixture
def run(truth: MlflowClient, experiment_id: str) -> RunInfo:
    """Return a run without artifacts."""
    return truth.create_run(experiment_id).info


def served(run: RunInfo, name: str) -> str:
    """Return the path at which the tracking server serves an artifact of the run. ``name`` must be escaped already."""
    return f"/api/2.0/mlflow-artifacts/artifacts{run.artifact_uri.removeprefix('mlflow-artifacts:')}/{name}"


def listed(client: MlflowClient, run: RunInfo, folder: str | None = None) -> dict[str, int | None]:
    """Return the size of every artifact in the folder and below it, by name; folders have none."""
    found: dict[str, int | None] = {}
    for entry in client.list_artifacts(run.run_id, folder):
        assert folder is None or entry.path.startswith(f"{folder}/")  # otherwise the recursion would never end
        found[entry.path] = None if entry.is_dir else entry.file_size or 0  # MLflow leaves out a size of 0
        if entry.is_dir:
            found |= listed(client, run, entry.path)
    return found


@content
def test_upload(
    content: bytes, as_writer: MlflowClient, truth: MlflowClient, truth_rest: Rest, run: RunInfo, tmp_path: Path
) -> None:
    """MLflow holds what was uploaded, byte for byte, even if the file is empty."""
    file = tmp_path / "model.bin"
    file.write_bytes(content)

    as_writer.log_artifact(run.run_id, file)

    assert listed(truth, run) == {"model.bin": len(content)}
    assert truth_rest.get(served(run, "model.bin")).content == content


@content
def test_download(content: bytes, as_reader: MlflowClient, truth_rest: Rest, run: RunInfo, tmp_path: Path) -> None:
    """What MLflow holds is downloaded byte for byte, even if the file is empty."""
    truth_rest.put(served(run, "model.bin"), data=content).raise_for_status()

    downloaded = as_reader.download_artifacts(run.run_id, "model.bin", str(tmp_path))

    assert Path(downloaded).read_bytes() == content


@pytest.mark.capability("logged-models")  # the client looks for their artifacts, too
def test_upload_folder(as_writer: MlflowClient, truth: MlflowClient, run: RunInfo, tmp_path: Path) -> None:
    """A folder is uploaded with its subfolders."""
    (tmp_path / "model" / "code").mkdir(parents=True)
    (tmp_path / "model" / "MLmodel").write_bytes(b"flavors: {}\n")
    (tmp_path / "model" / "code" / "train.py").write_bytes(b"pass\n")

    as_writer.log_artifacts(run.run_id, str(tmp_path / "model"), "final/model")

    assert listed(truth, run) == {
        "final": None,
        "final/model": None,
        "final/model/MLmodel": 12,
        "final/model/code": None,
        "final/model/code/train.py": 5,
    }


@pytest.mark.capability("logged-models")  # the client looks for their artifacts, too
def test_list_and_download_folder(as_reader: MlflowClient, truth_rest: Rest, run: RunInfo, tmp_path: Path) -> None:
    """A folder is listed with names and sizes, and downloaded with everything in it and nothing from beside it."""
    for name, text in (("model/MLmodel", b"flavors: {}\n"), ("model/code/train.py", b"pass\n"), ("notes.txt", b"beside")):
        truth_rest.put(served(run, name), data=text).raise_for_status()

    assert listed(as_reader, run, "model") == {"model/MLmodel": 12, "model/code": None, "model/code/train.py": 5}
    as_reader.download_artifacts(run.run_id, "model", str(tmp_path))

    files = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"model/MLmodel": b"flavors: {}\n", "model/code/train.py": b"pass\n"}


@pytest.mark.capability("logged-models")  # the client looks for their artifacts, too
def test_delete_artifact(writer_rest: Rest, truth: MlflowClient, truth_rest: Rest, run: RunInfo) -> None:
    """A deleted artifact is gone, and its neighbour is not."""
    for name in ("model/old.bin", "model/new.bin"):
        truth_rest.put(served(run, name), data=b"weights").raise_for_status()

    answer = writer_rest.delete(served(run, "model/old.bin"))

    assert answer.status_code == 200
    assert listed(truth, run) == {"model": None, "model/new.bin": 7}


@pytest.mark.parametrize(
    ("sent", "stored"),
    # MLflow before 3.14 fails where a file's name is not Latin.
    [pytest.param(*names, id=name, marks=pytest.mark.since("3.14") if name == "unicode" else ()) for name, names in NAMES.items()],
)
def test_name(sent: str, stored: str, client: MlflowClient, rest: Rest, truth: MlflowClient, run: RunInfo) -> None:
    """An artifact is stored and listed under exactly the name that was sent, and can be downloaded by it."""
    uploaded = rest.put(served(run, sent), data=stored.encode())
    downloaded = rest.get(served(run, sent))
    listed_on_route = listed(client, run)

    assert uploaded.status_code == 200
    # A hop that mangles names may do so in both directions: what counts is what MLflow itself lists.
    assert listed(truth, run) == {stored: len(stored.encode())}
    assert listed_on_route == {stored: len(stored.encode())}
    assert (downloaded.status_code, downloaded.content) == (200, stored.encode())


def test_overwrite(rest: Rest, truth_rest: Rest, run: RunInfo) -> None:
    """An overwritten artifact is downloaded with its new content, whatever its extension: no hop serves a cached copy."""
    for name in KEPT_BY_SOME:
        truth_rest.put(served(run, name), data=b"old").raise_for_status()
    before = {name: rest.get(served(run, name)).content for name in KEPT_BY_SOME}
    for name in KEPT_BY_SOME:
        truth_rest.put(served(run, name), data=b"new").raise_for_status()

    after = {name: rest.get(served(run, name)).content for name in KEPT_BY_SOME}

    assert before == dict.fromkeys(KEPT_BY_SOME, b"old")
    assert after == dict.fromkeys(KEPT_BY_SOME, b"new")


def test_download_without_key(route: Route, rest: Rest, truth_rest: Rest, run: RunInfo, target: Target) -> None:
    """An artifact that was just downloaded with a key is refused to a caller without one."""
    for name in KEPT_BY_SOME:
        truth_rest.put(served(run, name), data=b"weights").raise_for_status()
        assert rest.get(served(run, name)).content == b"weights"

    with Rest(route) as nobody:
        answers = [nobody.get(served(run, name)) for name in KEPT_BY_SOME]

    for answer in answers:
        assert_denied(answer, target.contract.denial(target.identity("anonymous")))


def test_page(rest: Rest, truth_rest: Rest, run: RunInfo) -> None:
    """A page is downloaded as it was uploaded, comments, scripts and e-mail addresses included."""
    truth_rest.put(served(run, "report.html"), data=PAGE).raise_for_status()

    downloaded = rest.get(served(run, "report.html"))

    assert (downloaded.status_code, downloaded.content) == (200, PAGE)


def test_folder_named_like_prefix(route: Route, rest: Rest, truth: MlflowClient, run: RunInfo) -> None:
    """An artifact in a folder named like the route's prefix is stored there: only the beginning of a path is a prefix."""
    folder = urlsplit(route.url).path.strip("/") or "prefix"

    uploaded = rest.put(served(run, f"{folder}/notes.txt"), data=b"text")

    assert uploaded.status_code == 200
    assert listed(truth, run, folder) == {f"{folder}/notes.txt": 4}


class LargeFile:
    """A hundred megabytes, never in memory all at once. No two blocks are alike, so that a lost or moved one is noticed."""

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
def large_file(truth_rest: Rest, run: RunInfo) -> Iterator[str]:
    """Return the path of an artifact, and delete it afterwards: a deleted experiment keeps its artifacts."""
    path = served(run, "large.bin")
    yield path
    truth_rest.delete(path).raise_for_status()


@pytest.mark.capability("large-bodies")
@pytest.mark.since("3.8")  # older ones send a file line by line, which takes minutes
def test_large_file(rest: Rest, truth: MlflowClient, run: RunInfo, large_file: str) -> None:
    """A hundred megabytes arrive complete and come back unchanged."""
    sent, received = LargeFile(), hashlib.sha256()

    uploaded = rest.put(large_file, data=sent)
    with rest.get(large_file, stream=True) as downloaded:
        for block in downloaded.iter_content(LargeFile.block):
            received.update(block)

    assert (uploaded.status_code, downloaded.status_code) == (200, 200)
    assert listed(truth, run) == {"large.bin": len(sent)}
    assert received.hexdigest() == sent.checksum.hexdigest()
