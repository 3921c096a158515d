"""How bodies are transferred: chunks, codings, ranges, conditions, HEAD and Expect. Bodies arrive unchanged, to the byte."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlflow_proxy_e2e.checks.fidelity import API, AWKWARD, assert_same, done, examples, get, in_query
from mlflow_proxy_e2e.wire import JSON, Headers, Request, Wire, describe

CONTENT = hashlib.shake_128(b"artifact").digest(5000)  # 5 kB that cannot be compressed, with every kind of byte in them
CHUNKED = (("Transfer-Encoding", "chunked"),)
STATIC = "/static-files/manifest.json"

TAKES_GZIP = ("*", "gzip", "gzip, deflate, br, zstd", "identity;q=0, gzip")  # of what clients say that they accept
RANGES = {
    "beyond": "bytes=5000-",
    "first-bytes": "bytes=0-9",
    "last-bytes": "bytes=-7",
    "not-bytes": "lines=1-2",
    "one-byte": "bytes=4999-4999",
    "rest": "bytes=4990-",
    "too-long": "bytes=4990-9999",
}


def chunked(content: bytes, sizes: Sequence[int], *, extension: str = "", trailers: str = "") -> bytes:
    """Return the content in chunks of these sizes, and the rest in a last one."""
    parts, rest = [], content
    for size in (*sizes, len(content)):
        part, rest = rest[:size], rest[size:]
        if part:
            parts.append(f"{len(part):x}{extension}\r\n".encode() + part + b"\r\n")
    return b"".join(parts) + f"0\r\n{trailers}\r\n".encode()


@pytest.mark.capability("artifacts")
@examples(4)
@given(sizes=st.lists(st.integers(1, 700), max_size=20))
@example(sizes=[1, 1, 255, 256, 1, 4096])
@pytest.mark.since("3.12")  # older ones store none of it
def test_chunked_upload(sizes: list[int], wire: Wire, truth_wire: Wire, place: str) -> None:
    """A chunked upload is stored completely, whatever the sizes of its chunks."""
    upload = Request("PUT", f"{place}/chunks.bin", CHUNKED, chunked(CONTENT, sizes))

    done(wire, upload)

    held = done(truth_wire, Request("GET", upload.path)).body
    assert held == CONTENT, describe(wire, upload, f"{len(held)} bytes held: {held[:50]!r}…", f"{len(CONTENT)} bytes")


ODD_UPLOADS = {
    "chunk-extensions": Request("PUT", "", CHUNKED, chunked(b"content", [3], extension=";name=value")),
    "chunks-of-nothing": Request("PUT", "", CHUNKED, chunked(b"", [])),
    "form": Request("PUT", "", (("Content-Type", "application/x-www-form-urlencoded"),), b"a=1&b=2"),
    "gzip": Request("PUT", "", (("Content-Encoding", "gzip"),), gzip.compress(b"content", mtime=0)),
    "nothing": Request("PUT", "", (("Content-Length", "0"),)),
    "trailers": Request("PUT", "", (*CHUNKED, ("Trailer", "X-Checksum")), chunked(b"content", [3], trailers="X-Checksum: 1\r\n")),
}
STORED = {"chunk-extensions": b"content", "chunks-of-nothing": b"", "nothing": b"", "trailers": b"content"}


@pytest.mark.capability("artifacts")
@pytest.mark.parametrize("name", ODD_UPLOADS)
@pytest.mark.since("3.12")  # the same
def test_odd_upload(name: str, wire: Wire, truth_wire: Wire, place: str) -> None:
    """An upload is stored as it is: framing is removed, a content coding is not, and an empty upload is content, too."""
    form = ODD_UPLOADS[name]
    upload = Request(form.method, f"{place}/odd.bin", form.headers, form.body)

    done(wire, upload)

    held = done(truth_wire, Request("GET", upload.path))
    expected = STORED.get(name, form.body)
    assert held.body == expected, describe(wire, upload, held.body[:100], expected[:100])
    assert done(wire, Request("GET", upload.path)).body == expected


def otlp(body: bytes, coding: str) -> Request:
    """Return an OTLP request to MLflow."""
    return Request("POST", "/v1/traces", (*JSON, ("X-Mlflow-Experiment-Id", "0"), ("Content-Encoding", coding)), body)


NO_SPANS = json.dumps({"resourceSpans": [], "pad": "x" * 2000}).encode()
CODED = {
    "gzip": otlp(gzip.compress(NO_SPANS, mtime=0), "gzip"),
    "gzip-cut-off": otlp(gzip.compress(NO_SPANS, mtime=0)[:-9], "gzip"),
    "gzip-in-chunks": Request(
        "POST", "/v1/traces", (*otlp(b"", "gzip").headers, *CHUNKED), chunked(gzip.compress(NO_SPANS, mtime=0), [1, 10])
    ),
    "not-gzip": otlp(NO_SPANS, "gzip"),
    "unknown-coding": otlp(NO_SPANS, "br"),
}


@pytest.mark.parametrize("request_", CODED.values(), ids=CODED.keys())
def test_coded_request(request_: Request, wire: Wire, direct_wire: Wire) -> None:
    """A compressed body is decompressed by MLflow alone: it gets the same content, or error, as when it is sent directly."""
    assert_same(request_, wire, direct_wire)


@pytest.mark.capability("ui")
@pytest.mark.parametrize("accepted", ["none", "", "*", "br", "gzip", "gzip, deflate, br, zstd", "identity;q=0, gzip"])
def test_coded_answer(accepted: str, wire: Wire, direct_wire: Wire, experiment_id: str) -> None:
    """An answer is compressed by MLflow, or by a hop for a client that accepts that: decompressed, it is MLflow's.

    A strong ETag promises the very bytes that MLflow sent, so a compressed answer cannot keep it.
    """
    headers: Headers = () if accepted == "none" else (("Accept-Encoding", accepted),)

    for path in (STATIC, f"{API}/experiments/get?experiment_id={experiment_id}"):
        request = Request("GET", path, headers)
        came = wire.ask(request)
        if accepted in TAKES_GZIP and came.header("Content-Encoding") == "gzip":
            plain = done(direct_wire, Request("GET", path))
            assert gzip.decompress(came.body) == plain.body, describe(wire, request, came, "MLflow's")
            tag = came.header("ETag")
            assert tag is None or tag.startswith("W/") or tag != plain.header("ETag"), describe(wire, request, tag, "a weak ETag")
        else:
            assert_same(request, wire, direct_wire)


@pytest.mark.capability("artifacts")
def test_expect_continue(wire: Wire, truth_wire: Wire, place: str) -> None:
    """A client that waits for 100 Continue before an upload gets it, and then the answer."""
    upload = Request("PUT", f"{place}/expected.bin", (("Expect", "100-continue"),), CONTENT)
    data = wire.encode(upload)

    wire.send(data[: -len(CONTENT)])
    interim = wire.receive_interim()
    wire.send(CONTENT)
    answer = wire.receive("PUT")

    assert (interim.status, answer.status) == (100, 200), describe(
        wire, upload, f"{interim.status}, then {answer}", "100, then 200"
    )
    assert done(truth_wire, Request("GET", upload.path)).body == CONTENT


@pytest.mark.capability("artifacts", "ui")
def test_head(wire: Wire, direct_wire: Wire, place: str) -> None:
    """HEAD gets MLflow's headers and no body, and except after errors, the connection can be used for the next call."""
    done(direct_wire, Request("PUT", f"{place}/model.bin", body=CONTENT))

    for path in (STATIC, f"{place}/model.bin", f"{place}/missing.bin", f"{API}/experiments/search?max_results=1"):
        head = Request("HEAD", path)
        answer, expected = wire.ask(head), direct_wire.ask(head)
        was_open = wire.is_open or answer.status >= 400
        following = wire.ask(get("experiments/get-by-name?experiment_name=following"))

        assert answer.body == b""
        assert_same(head, wire, direct_wire)
        # Here it is the length that GET would have had: it frames nothing.
        lengths = answer.header("Content-Length"), expected.header("Content-Length")
        assert lengths[0] in (None, lengths[1]), describe(wire, head, *map(str, lengths))
        assert (following.status, was_open) == (404, True), describe(wire, head, following, "an open connection, and 404")


@pytest.mark.capability("artifacts")
@pytest.mark.parametrize("bytes_", RANGES.values(), ids=RANGES.keys())
def test_range(bytes_: str, wire: Wire, direct_wire: Wire, place: str) -> None:
    """A range of an artifact is the one that MLflow returns."""
    done(direct_wire, Request("PUT", f"{place}/model.bin", body=CONTENT))

    assert_same(Request("GET", f"{place}/model.bin", (("Range", bytes_),)), wire, direct_wire)


@pytest.mark.capability("ui")
@pytest.mark.parametrize(
    "condition", ["if-range", "if-range-of-another", "match-of-another", "modified", "none-match", "none-of-many", "range"]
)
def test_conditional_request(condition: str, wire: Wire, direct_wire: Wire) -> None:
    """MLflow decides whether a file of its pages has changed, and which range of it is returned."""
    file = done(direct_wire, Request("GET", STATIC))
    tag, modified = file.header("ETag") or "", file.header("Last-Modified") or ""
    part = ("Range", "bytes=3-11")
    headers: dict[str, Headers] = {
        "if-range": (part, ("If-Range", tag)),
        "if-range-of-another": (part, ("If-Range", '"another"')),
        "match-of-another": (("If-Match", '"another"'),),
        "modified": (("If-Modified-Since", modified),),
        "none-match": (("If-None-Match", tag),),
        "none-of-many": (("If-None-Match", ", ".join(f'W/"{number:040}"' for number in range(80)) + f", {tag}"),),
        "range": (part,),
    }

    assert_same(Request("GET", STATIC, headers[condition]), wire, direct_wire)


@pytest.mark.capability("artifacts", "ui")
@pytest.mark.since("3.14")  # as test_artifact_names
def test_names_in_headers(wire: Wire, direct_wire: Wire, place: str) -> None:
    """A download's headers have its name as MLflow writes it, in any script and with any punctuation."""
    run_id = place.split("/")[-2]
    for name in ("\u6a21\u578b \u00e9\u00df.txt", 'a "quoted"; name=x, y.csv', "".join(AWKWARD[11:15]).replace("\\", "") + ".json"):
        path = f"{place}/{in_query(name)}"
        done(direct_wire, Request("PUT", path, body=b"text"))

        assert_same(Request("GET", path), wire, direct_wire)
        assert_same(Request("GET", f"/get-artifact?run_id={run_id}&path={in_query(name)}"), wire, direct_wire)
