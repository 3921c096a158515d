"""A pytest plugin that records every HTTP request of a run, for ``replay`` to send again."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests
from requests.adapters import HTTPAdapter

from fixtures.options import TARGET

FOLDER = "BENCH_RECORDING"  # the environment variable that names the folder for the recordings, one of each worker


class Exchange(NamedTuple):
    """A request, its path relative to MLflow, and the JSON of its answer if that was read at once.

    A body that was streamed is only its size in bytes.
    """

    method: str
    path: str
    content_type: str | None
    body: bytes | int | None
    answer: Any


class Recorder:
    """Writes each exchange to a file as it happens."""

    def __init__(self, path: Path, bases: list[str]) -> None:
        self._file = path.open("wb")
        self._bases = bases

    def record(self, request: requests.PreparedRequest, response: requests.Response, *, stream: bool) -> None:
        """Record one exchange."""
        url = request.url or ""
        base = next((base for base in self._bases if url.startswith(base)), None)
        if base is None:
            return
        body = request.body.encode() if isinstance(request.body, str) else request.body
        answer = None
        if not stream and "json" in response.headers.get("Content-Type", ""):
            answer = response.json()
        content_type = request.headers.get("Content-Type")
        size = body if body is None or isinstance(body, bytes) else requests.utils.super_len(body)
        pickle.dump(tuple(Exchange(str(request.method), url[len(base) :], content_type, size, answer)), self._file)


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None:
        return
    target = session.config.stash[TARGET]
    bases = [route.url for route in (*target.routes, target.direct) if route]
    recorder = Recorder(Path(os.environ[FOLDER], worker), bases)
    send = HTTPAdapter.send

    def send_and_record(adapter: HTTPAdapter, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        response = send(adapter, request, *args, **options)
        recorder.record(request, response, stream=bool(options.get("stream")))
        return response

    HTTPAdapter.send = send_and_record  # type: ignore[assignment]
