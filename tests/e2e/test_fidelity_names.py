"""Names, tags, parameters and artifact paths in any script and with any punctuation are stored exactly as written.

A hop that mangles a name may do so in both directions: what counts is a listing that was not requested by name.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable, Mapping
from posixpath import normpath
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlflow_proxy_e2e.checks.fidelity import (
    AWKWARD,
    Run,
    assert_held,
    data_of,
    done,
    escaped,
    examples,
    get,
    in_query,
    post,
    spelled,
    texts,
    values_of,
)
from mlflow_proxy_e2e.scratch import Scratch
from mlflow_proxy_e2e.wire import Request, Wire, describe

IN_QUERY = "!$'()*,/:;?@"  # may be in a parameter's value without being escaped
IN_PATH = "!$&'()*+,;=:@"  # may be in a segment of a path without being escaped
LONGEST_FILE_NAME = 200  # bytes; file systems allow 255

# A few names with several difficulties each are cheaper than a name for each difficulty.
NAMES = ["/".join(AWKWARD[first::6]) for first in range(6)]


def is_key(text: str) -> bool:
    """Tell whether MLflow accepts the text as the key of a tag, a parameter or a metric."""
    allowed = all(character.isalnum() or character in "/_.- :" for character in text)
    return allowed and normpath(text) == text and text[0] not in "./"


def is_file_name(text: str) -> bool:
    """Tell whether MLflow stores an artifact under exactly that name: it decodes a name until nothing is left to decode."""
    odd = text in (".", "..") or any(mark in "/#" or unicodedata.category(mark) == "Cc" for mark in text)
    return not odd and unquote(text) == text and 0 < len(text.encode()) <= LONGEST_FILE_NAME


keys = st.text(
    st.one_of(st.sampled_from("/_.- :"), st.characters(categories=["Lu", "Ll", "Lo", "Lm", "Nd"])), min_size=1, max_size=30
)
file_names = texts.filter(is_file_name)
FILE_NAMES = ["_".join([name for name in AWKWARD if is_file_name(name)][first::6]) for first in range(6)] + [IN_PATH]
seeds = st.integers(0, 2**32)


def test_experiment_names(wire: Wire, truth_wire: Wire, scratch: Scratch) -> None:
    """An experiment is listed under its name, and found by it, however it is escaped."""
    own, others = ([scratch.experiment(name) for name in NAMES] for _ in range(2))
    created = {}
    for creator, names in ((wire, own), (truth_wire, others)):
        for name in names:
            created[done(creator, post("experiments/create", {"name": name})).json()["experiment_id"]] = name

    listing = post("experiments/search", {"filter": _like(scratch), "max_results": 100})
    for asked in (truth_wire, wire):
        shown = {entry["experiment_id"]: entry["name"] for entry in done(asked, listing).json().get("experiments", ())}
        assert_held(shown, created, asked, listing)
    for seed, name in enumerate(others):
        by_name = get(f"experiments/get-by-name?experiment_name={escaped(name, IN_QUERY, random.Random(seed))}")
        answer = done(wire, by_name)
        assert created[answer.json()["experiment"]["experiment_id"]] == name, describe(wire, by_name, answer, ascii(name))


@pytest.mark.capability("registry")
def test_registered_model_names(wire: Wire, truth_wire: Wire, scratch: Scratch) -> None:
    """A model is listed under its name, and found by it, however it is escaped."""
    taken = [name.replace("/", ",").replace(":", ",") for name in NAMES[::2]]  # MLflow allows neither in a model's name
    own, others = ([scratch.model(name) for name in taken] for _ in range(2))
    for creator, names in ((wire, own), (truth_wire, others)):
        for name in names:
            done(creator, post("registered-models/create", {"name": name}))

    listing = get(f"registered-models/search?filter={in_query(_like(scratch))}")
    for asked in (truth_wire, wire):
        shown = [entry["name"] for entry in done(asked, listing).json().get("registered_models", ())]
        assert_held(dict.fromkeys(shown, "there"), dict.fromkeys(own + others, "there"), asked, listing)
    for seed, name in enumerate(others):
        by_name = get(f"registered-models/get?name={escaped(name, IN_QUERY, random.Random(seed))}")
        answer = done(wire, by_name)
        assert answer.json()["registered_model"]["name"] == name, describe(wire, by_name, answer, ascii(name))


def _like(scratch: Scratch) -> str:
    return f"name LIKE '{scratch.beginning}-%'"


@examples(4)
@given(batch=st.dictionaries(keys.filter(is_key), texts, min_size=1, max_size=20), seed=seeds)
@example(batch={f"key {number}": text for number, text in enumerate(AWKWARD)}, seed=1)
def test_tags_and_params(batch: Mapping[str, str], seed: int, wire: Wire, truth_wire: Wire, new_run: Callable[[], Run]) -> None:
    """Tags and parameters are stored as sent, however the JSON is spelled, and read as they are stored."""
    run = new_run()
    entries = [{"key": key, "value": value} for key, value in batch.items()]
    request = post("runs/log-batch", spelled({"run_id": run.run_id, "tags": entries, "params": entries}, random.Random(seed)))

    done(wire, request)

    for asked in (truth_wire, wire):
        data = data_of(run, asked)
        for kind in ("tags", "params"):
            assert_held(values_of(data[kind]), dict(batch), asked, request)


@examples(3)
@given(names=st.lists(keys.filter(is_key), min_size=1, max_size=5, unique=True), seed=seeds)
@pytest.mark.since("3.12")  # some older ones misread escaped keys
def test_metric_keys(names: list[str], seed: int, wire: Wire, truth_wire: Wire, new_run: Callable[[], Run]) -> None:
    """A metric is listed under its key, and its history is found by it, however it is escaped."""
    run = new_run()
    points = [{"key": name, "value": float(number), "timestamp": 1} for number, name in enumerate(names)]
    request = post("runs/log-batch", spelled({"run_id": run.run_id, "metrics": points}, random.Random(seed)))

    done(wire, request)

    sent = {name: float(number) for number, name in enumerate(names)}
    assert_held(values_of(data_of(run, truth_wire)["metrics"]), sent, truth_wire, request)
    for name, value in sent.items():
        key = escaped(name, IN_QUERY, random.Random(seed))
        history = get(f"metrics/get-history?run_id={run.run_id}&metric_key={key}")
        answer = done(wire, history)
        assert [point["value"] for point in answer.json()["metrics"]] == [value], describe(wire, history, answer, value)


@pytest.mark.capability("artifacts")
@examples(3)
@given(names=st.lists(file_names, min_size=1, max_size=4, unique=True), seed=seeds)
@example(names=FILE_NAMES, seed=1)
@pytest.mark.since("3.14")  # older ones fail if a file's name is not Latin-1
def test_artifact_names(names: list[str], seed: int, wire: Wire, truth_wire: Wire, new_run: Callable[[], Run]) -> None:
    """An artifact is listed under its name, and downloaded by it, however it is escaped."""
    choice = random.Random(seed)
    contents = {name: f"{number} {name}".encode() for number, name in enumerate(names)}
    sizes = {name: len(content) for name, content in contents.items()}
    own, others = new_run(), new_run()

    def at(run: Run, name: str) -> str:
        return f"{run.artifacts}/{escaped(name, IN_PATH, choice)}"

    for creator, run in ((wire, own), (truth_wire, others)):
        for name, content in contents.items():
            done(creator, Request("PUT", at(run, name), body=content))

    for asked, run in ((truth_wire, own), (wire, others)):
        listing = get(f"artifacts/list?run_id={run.run_id}")
        shown = {entry["path"]: int(entry.get("file_size", 0)) for entry in done(asked, listing).json().get("files", ())}
        assert_held(shown, sizes, asked, listing)
    for name, content in contents.items():
        download = Request("GET", at(others, name))
        answer = done(wire, download)
        assert answer.body == content, describe(wire, download, answer, content)


@pytest.mark.capability("artifacts")
@pytest.mark.parametrize("slash", ["/", "%2F", "%2f", "%252F", "%25252f"])
def test_artifact_in_folder(slash: str, wire: Wire, truth_wire: Wire, new_run: Callable[[], Run]) -> None:
    """A slash in an artifact's path is a slash however often it was escaped, as it is to MLflow itself."""
    run = new_run()
    upload = Request("PUT", f"{run.artifacts}/folder{slash}file.txt", body=b"text")

    done(wire, upload)

    root = done(truth_wire, get(f"artifacts/list?run_id={run.run_id}")).json().get("files", ())
    assert [entry["path"] for entry in root] == ["folder"], describe(wire, upload, root, "one folder")
    files = done(truth_wire, get(f"artifacts/list?run_id={run.run_id}&path=folder")).json().get("files", ())
    assert [entry["path"] for entry in files] == ["folder/file.txt"], describe(wire, upload, files, "one file in it")
    assert done(wire, Request("GET", upload.path)).body == b"text"
