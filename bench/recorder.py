"""A pytest plugin that records the HTTP requests of a run that MLflow has answered, for ``replay`` to send again.

Requests that the proxy refused are left out: they never reached MLflow, which would take longer to answer them than the proxy.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from bench.exchange import TEST_THREAD, Exchange, write
from mlflow_proxy_e2e.stash import TARGET
from mlflow_proxy_e2e.target import Target
from mlflow_proxy_e2e.wire import Answer, Request, Wire

FOLDER = "BENCH_RECORDING"  # the environment variable that names the folder for the recordings, one of each worker
METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")  # of requests that any client can send again
URL_PATH = re.compile(r"/[!-~]*")
REFUSED = (401, 403, 429)  # by the proxy
HEADERS = (  # that MLflow acts by
    *("Content-Encoding", "Content-Type", "Range", "X-MLflow-Experiment-Id", "X-MLFLOW-WORKSPACE"),
    *("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"),
)
LARGE_BYTES = 1 << 20  # of a body that is not kept


class Recorder:
    """Keeps the exchanges of one worker, and writes them to a file at the end of its session."""

    def __init__(self, target: Target, file: Path) -> None:
        self._bases = [route.url for route in (*target.routes, target.direct) if route]
        self._direct = target.direct.url if target.direct else None
        self._file = file
        self._test_thread = threading.get_ident()
        self._exchanges: list[Exchange] = []

    def install(self) -> None:
        """Start recording what is sent with requests and with Wire."""
        send, ask = HTTPAdapter.send, Wire.ask

        def send_and_record(
            adapter: HTTPAdapter, request: requests.PreparedRequest, *args: Any, **options: Any
        ) -> requests.Response:
            began = time.monotonic()
            response = send(adapter, request, *args, **options)
            self._record_session(began, request, response, stream=bool(options.get("stream")))
            return response

        def ask_and_record(wire: Wire, request: Request) -> Answer:
            began = time.monotonic()
            answer = ask(wire, request)
            self._record_wire(began, wire, request, answer)
            return answer

        HTTPAdapter.send = send_and_record  # type: ignore[assignment]
        Wire.ask = ask_and_record  # type: ignore[assignment, method-assign]

    def pytest_sessionfinish(self) -> None:
        """Write the recording."""
        write(self._exchanges, self._file)

    def _record_session(
        self, began: float, request: requests.PreparedRequest, response: requests.Response, *, stream: bool
    ) -> None:
        path = self._path(request.url or "", response.status_code)
        if path is None:
            return
        answer = None if stream else _if_json(response.headers.get("Content-Type"), response.content)
        self._keep(began, str(request.method), path, request.headers.get, _sent(request), response.status_code, answer)

    def _record_wire(self, began: float, wire: Wire, request: Request, answer: Answer) -> None:
        path = self._path(wire.route.url + request.path, answer.status)
        if path is None or request.method not in METHODS or not URL_PATH.fullmatch(path):
            return  # only a Wire can send it
        body = _if_json(answer.header("Content-Type"), answer.body)
        self._keep(began, request.method, path, request.header, request.body or None, answer.status, body)

    def _path(self, url: str, status: int) -> str | None:
        """Return the path within MLflow, or None where it was not MLflow that answered."""
        for base in self._bases:
            if url.startswith(f"{base}/"):
                return None if base != self._direct and status in REFUSED else url[len(base) :]
        return None

    def _keep(
        self,
        began: float,
        method: str,
        path: str,
        header: Callable[[str], str | None],
        body: bytes | int | None,
        status: int,
        answer: bytes | None,
    ) -> None:
        thread = threading.get_ident()
        thread = TEST_THREAD if thread == self._test_thread else thread
        headers = {name: value for name in HEADERS if (value := header(name)) is not None}
        body = len(body) if isinstance(body, bytes) and len(body) > LARGE_BYTES else body
        self._exchanges.append(Exchange(began, thread, method, path, headers, body, status, answer))


def _sent(request: requests.PreparedRequest) -> bytes | int | None:
    """Return the body of a request, or the size of one that was streamed and is gone."""
    body: Any = request.body
    if isinstance(body, str):
        return body.encode()
    return body if body is None or isinstance(body, bytes) else int(request.headers.get("Content-Length", 0))


def _if_json(content_type: str | None, body: bytes) -> bytes | None:
    return body if "json" in (content_type or "") else None


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None:
        return
    recorder = Recorder(session.config.stash[TARGET], Path(os.environ[FOLDER], worker))
    recorder.install()
    session.config.pluginmanager.register(recorder)
