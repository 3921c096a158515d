"""Targets that do what no server should: a run against each has one clear outcome, soon, with little memory, and shows no key."""

from __future__ import annotations

import gzip
import random
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import psutil
import pytest
import trustme

from fixtures.profiles import write_profile
from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.deployed import DeployedStack
from mlflow_proxy_e2e.errors import UnreachableError
from mlflow_proxy_e2e.target import Identity, Route, Secret, Target
from mlflow_proxy_e2e.traffic import BYTES, TRAFFIC
from tests.harness.conftest import Run, StartRun, wait_until
from tests.harness.servers import Behaviour, Server, answer, breaks_off, closes, json_answer, says

SECONDS = 120.0  # for a whole run on a busy machine: 15 s are usual
MEGABYTES = 700  # of all processes of a run: pytest and MLflow's client take 300
SAMPLE_SECONDS = 0.2
KEY = "hk_test_canary0123456789"
SOME_SMOKE = ("-m", "smoke", "-k", "test_create_experiment or test_search_runs")


def for_ever(part: bytes, before: bytes = b"", seconds: float = 0) -> Behaviour:
    """Begin an answer, and send the same part for ever, with pauses."""

    def behave(connection: socket.socket, _: bytes) -> None:
        connection.sendall(before)
        while True:
            connection.sendall(part)
            time.sleep(seconds)

    return behave


def slowly(whole: bytes) -> Behaviour:
    """Send an answer one byte a second."""

    def behave(connection: socket.socket, _: bytes) -> None:
        for byte in whole:
            connection.sendall(bytes([byte]))
            time.sleep(1)

    return behave


def hangs(connection: socket.socket, _: bytes) -> None:
    """Say nothing until the other side has gone."""
    while connection.recv(65536):
        pass


def resets(connection: socket.socket, _: bytes) -> None:
    """Reset the connection."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def echoes(connection: socket.socket, request: bytes) -> None:
    """Answer with the request, its key included, in the body and in a header."""
    key = request.partition(b"Bearer ")[2].partition(b"\r\n")[0].decode()
    connection.sendall(json_answer("400 Bad Request", f'{{"error_code": "BAD_REQUEST", "message": "{key}"}}', f"X-Echo: {key}"))


OK = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = f"{OK}Transfer-Encoding: chunked\r\n\r\n".encode()
NO_LENGTH = f"{OK}Connection: close\r\n\r\n".encode()
BLOCK = b"x" * 65536
BOMB = gzip.compress(b" " * (100 << 20), 9, mtime=0)
FAILURES = [
    json_answer(f"{status} Failure", '{"error_code": "INTERNAL_ERROR", "message": "now and then"}') for status in (500, 502, 503)
]

UNREACHABLE: dict[str, tuple[Behaviour, str]] = {
    "another-protocol": (says(b"SSH-2.0-OpenSSH_9.6\r\n"), "the server does not speak HTTP"),
    "binary": (says(bytes(range(256)) * 4 + b"\n"), "the server does not speak HTTP"),
    "http-2": (says(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + b"\x00" * 18 + b"\n"), "the server does not speak HTTP"),
    "half-open": (hangs, "there is no answer within 5 s"),
    "closes": (closes, "Remote end closed connection"),
    "resets": (resets, "Connection reset by peer"),
    "endless-status-line": (for_ever(BLOCK, b"HTTP/1.1 200 "), "the server does not speak HTTP"),
    "endless-header": (for_ever(BLOCK, b"HTTP/1.1 200 OK\r\nX-Long: "), "the server does not speak HTTP"),
    "endless-headers": (for_ever(b"X-More: more\r\n" * 1000, b"HTTP/1.1 200 OK\r\n"), "the server does not speak HTTP"),
    "endless-interim-answers": (for_ever(b"HTTP/1.1 100 Continue\r\n\r\n" * 100), "its answer does not end"),
    "endless-body": (for_ever(BLOCK, NO_LENGTH), "its answer does not end"),
    "endless-chunks": (for_ever(b"10000\r\n" + BLOCK + b"\r\n", CHUNKED), "its answer does not end"),
    "endless-chunk-size": (for_ever(b"0" * 65536, CHUNKED), "its answer does not end"),
    "byte-by-byte": (slowly(json_answer("200 OK", "{}")), "its answer does not end"),
    "body-byte-by-byte": (for_ever(b"x", NO_LENGTH, 1), "its answer does not end"),
    "less-than-announced": (breaks_off(f"{OK}Content-Length: 1000\r\n\r\n".encode()), "its answer does not end"),
    "chunk-that-is-none": (breaks_off(CHUNKED + b"zz\r\n"), "its answer does not end"),
}
WRONG: dict[str, Behaviour] = {
    "login-page": says(answer("200 OK", "Content-Type: text/html", body=b"<!doctype html><form>Sign in</form>")),
    "redirect-loop": says(answer("302 Found", "Location: /api/2.0/mlflow/experiments/search")),
    "redirect-elsewhere": says(answer("307 Temporary Redirect", "Location: http://192.0.2.1/")),
    "gzip-bomb": says(answer("200 OK", "Content-Type: application/json", "Content-Encoding: gzip", body=BOMB)),
    "gzip-that-is-none": says(answer("200 OK", "Content-Type: application/json", "Content-Encoding: gzip", body=b"{}")),
    "invalid-json": says(json_answer("200 OK", '{"experiments": [')),
    "deep-json": says(json_answer("200 OK", "[" * 100_000)),
    "long-number": says(json_answer("200 OK", f'{{"experiment_id": {"9" * 10_000}}}')),
    "other-json": says(json_answer("200 OK", "[1, null, true]")),
    "nothing": says(answer("200 OK")),
    "no-content": says(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "error-in-success": says(json_answer("200 OK", '{"error_code": "INTERNAL_ERROR", "message": "no database"}')),
    "random-failures": lambda connection, _: connection.sendall(random.choice(FAILURES)),
    "everybody-refused": says(json_answer("401 Unauthorized", '{"error_code": "UNAUTHENTICATED", "message": "no"}')),
    "come-back-tomorrow": says(json_answer("429 Too Many Requests", "{}", "Retry-After: 86400")),
    "unavailable-and-clock-far-off": says(json_answer("503 Service Unavailable", "{}", "Date: Thu, 01 Jan 1970 00:00:00 GMT")),
    "not-utf-8": says(answer("200 OK", "Content-Type: application/json; charset=utf-16", body=b"\xff\xfe\xd8\x00")),
    "echoes-keys": echoes,
    "breaks-off-in-a-header": breaks_off(b"HTTP/1.1 200 OK\r\nContent-Type: appl"),
}
# MLflow's client takes these for success: created objects have no id then, which fails only when it is used.
TAKEN_FOR_SUCCESS = ("nothing", "error-in-success", "breaks-off-in-a-header")


Serve = Callable[..., Target]
Against = Callable[[Behaviour], Run]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Return a function that starts a server with that behaviour, and returns it as a target, with the limits applied."""
    monkeypatch.setattr(TRAFFIC, "most_bytes", BYTES)
    servers: list[Server] = []

    def start(behaviour: Behaviour, scheme: str = "http", tls: ssl.SSLContext | None = None, ca: str | None = None) -> Target:
        servers.append(Server(behaviour, tls))
        route = Route("external", f"{scheme}://127.0.0.1:{servers[-1].port}", ca)
        who = Identity("platform", frozenset({"read", "write"}), key=Secret(KEY))
        return Target("hostile", (route,), (who,), frozenset(), ("bearer",))

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def against(serve: Serve, start_run: StartRun, tmp_path: Path) -> Against:
    """Return a function that starts some smoke tests against a server with that behaviour."""

    def start(behaviour: Behaviour) -> Run:
        file = tmp_path / "hostile.toml"
        keys = write_profile(serve(behaviour), file)
        return start_run(f"--target={file}", *SOME_SMOKE, XDG_STATE_HOME=str(tmp_path / "state"), **keys)

    return start


def why_not_reached(target: Target) -> str:
    """Return why a run would end before its first test. It must say so in time, and not show the key."""
    began = time.monotonic()
    stack = DeployedStack(target)
    stack.start()
    with pytest.raises(UnreachableError) as raised:
        list(stack.until_ready())
    assert time.monotonic() - began < 3 * timeouts.REACH
    assert KEY not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("name", UNREACHABLE)
def test_nobody_to_talk_to(name: str, serve: Serve) -> None:
    """A server that never answers a simple read is unreachable: the reason is reported, with little memory used."""
    behaviour, reason = UNREACHABLE[name]
    before = psutil.Process().memory_info().rss

    told = why_not_reached(serve(behaviour))

    assert told.startswith("The target 'hostile' cannot be reached:\n  external  http://127.0.0.1:")
    assert reason in told
    assert psutil.Process().memory_info().rss - before < 4 * BYTES


def test_run_with_nobody_to_talk_to(against: Against) -> None:
    """A run against such a target ends before its first test, and has an exit code of its own."""
    run = against(hangs)

    assert ends(run) == UnreachableError.exit_code, run.output
    assert "there is no answer within 5 s" in run.output


@pytest.mark.parametrize("name", WRONG)
def test_wrong_answers(name: str, against: Against) -> None:
    """A server that does not answer like MLflow fails all tests: by its answers to them, or to what they need."""
    run = against(WRONG[name])

    assert ends(run) == pytest.ExitCode.TESTS_FAILED, run.output
    assert run.outcomes() == {
        "test_create_experiment[external-platform]": "failure",
        "test_search_runs[external-platform]": "failure" if name in TAKEN_FOR_SUCCESS else "error",
    }


@pytest.mark.parametrize(
    ("names", "until", "trusted", "reason"),
    [
        pytest.param(["127.0.0.1"], timedelta(days=1), "", "its certificate is not accepted: ", id="unknown-authority"),
        pytest.param(["127.0.0.1"], timedelta(days=-1), "trusted", "certificate has expired", id="expired"),
        pytest.param(["192.0.2.1"], timedelta(days=1), "trusted", "IP address mismatch", id="another-name"),
    ],
)
def test_wrong_certificate(names: list[str], until: timedelta, trusted: str, reason: str, serve: Serve, tmp_path: Path) -> None:
    """No key is sent to a server with an invalid certificate."""
    known, other = trustme.CA(), trustme.CA()
    known.cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issuer = known if trusted else other
    issuer.issue_cert(*names, not_after=datetime.now(timezone.utc) + until).configure_cert(tls)

    assert reason in why_not_reached(serve(says(json_answer("200 OK", "{}")), "https", tls, str(tmp_path / "ca.pem")))


def test_no_tls(serve: Serve) -> None:
    """Nor to a server that does not encrypt when it should."""
    assert "no TLS connection can be established" in why_not_reached(
        serve(breaks_off(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "https")
    )


def ends(run: Run) -> int:
    """Return the exit code of a run, after asserting that it ended in time, used little memory and did not show the key."""
    most = 0
    end = time.monotonic() + SECONDS
    while run.process.poll() is None and time.monotonic() < end:
        most = max(most, sum(_memory(process) for process in run.processes()))
        wait_until(lambda: run.process.poll() is not None, SAMPLE_SECONDS)
    assert run.process.poll() is not None, run.output
    assert most >> 20 < MEGABYTES
    assert KEY not in run.output + (run.junit.read_text() if run.junit.exists() else "")
    assert "INTERNALERROR" not in run.output
    return run.process.wait()


def _memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
