"""A pytest plugin that records every HTTP request of a run, for ``replay`` to send again."""

from __future__ import annotations

import os
import pickle
import re
import threading
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests
from requests.adapters import HTTPAdapter

from mlflow_proxy_e2e.stash import TARGET
from mlflow_proxy_e2e.wire import Answer, Request, Wire

URL_PATH = re.compile(r"/[!-~]*")
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


METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")  # of requests that any client can send again


class Recorder:
    """Writes each exchange to a file as it happens."""

    def __init__(self, path: Path, bases: list[str]) -> None:
        self._file = path.open("wb")
        self._bases = bases
        self._lock = threading.Lock()

    def record(self, request: requests.PreparedRequest, response: requests.Response, *, stream: bool) -> None:
        """Record one exchange of a session's."""
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
        self._write(Exchange(str(request.method), url[len(base) :], content_type, size, answer))

    def record_on_wire(self, request: Request, came: Answer) -> None:
        """Record one exchange of a Wire's. What only a Wire can send is not what a floor is made of."""
        if request.method not in METHODS or not URL_PATH.fullmatch(request.path):
            return
        answer = came.json() if came.body and "json" in (came.header("Content-Type") or "") else None
        self._write(Exchange(request.method, request.path, request.header("Content-Type"), request.body or None, answer))

    def _write(self, exchange: Exchange) -> None:
        with self._lock:
            pickle.dump(tuple(exchange), self._file)


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None:
        return
    target = session.config.stash[TARGET]
    bases = [route.url for route in (*target.routes, target.direct) if route]
    recorder = Recorder(Path(os.environ[FOLDER], worker), bases)
    send, ask = HTTPAdapter.send, Wire.ask

    def send_and_record(adapter: HTTPAdapter, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        response = send(adapter, request, *args, **options)
        recorder.record(request, response, stream=bool(options.get("stream")))
        return response

    def ask_and_record(wire: Wire, request: Request) -> Answer:
        answer = ask(wire, request)
        recorder.record_on_wire(request, answer)
        return answer

    HTTPAdapter.send = send_and_record  # type: ignore[assignment]
    Wire.ask = ask_and_record  # type: ignore[assignment, method-assign]
