"""Requests on the wire, and the messages about them."""

from __future__ import annotations

import shlex
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from fixtures.services.edge.certificates import Authority
from mlflow_proxy_e2e import exchanges, timeouts
from mlflow_proxy_e2e.checks.oracle import assert_none_wrong
from mlflow_proxy_e2e.exchanges import EXCHANGES, REQUEST_ID, last_call
from mlflow_proxy_e2e.target import Identity, Route, Secret
from mlflow_proxy_e2e.wire import Answer, Request, Wire, describe

KEY = "hk_test_" + "k" * 32
READER = Identity("reader", frozenset({"read"}), key=Secret(KEY))
TOO_LARGE = b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 0\r\n\r\n"
THOUSAND = 1000
NOTHING = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@contextmanager
def server(*answers: bytes) -> Iterator[tuple[Route, list[bytes]]]:
    """Yield a route to a server that gives those answers, each on a new connection, and what it has received."""
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for answer in answers:
                connection, _ = listener.accept()
                with connection:
                    received.append(connection.recv(65536))
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield Route("internal", f"http://127.0.0.1:{listener.getsockname()[1]}/mlflow"), received
        thread.join()


@contextmanager
def refuser(authority: Authority | None) -> Iterator[Route]:
    """Yield a route to a server that answers 413 to the beginning of a request, and neither reads on nor closes the connection."""
    heard = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection if authority is None else _encrypted(connection, authority) as stream:
                stream.recv(1024)
                stream.sendall(TOO_LARGE)
                heard.wait(timeouts.ANSWER)

        thread = threading.Thread(target=serve)
        thread.start()
        scheme, ca = ("https", authority.file) if authority else ("http", None)
        yield Route("internal", f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/mlflow", ca)
        heard.set()
        thread.join()


def _encrypted(connection: socket.socket, authority: Authority) -> ssl.SSLSocket:
    certificate, file = authority.issue("127.0.0.1"), Path(authority.file).with_name("server.pem")
    file.write_text(certificate.chain + certificate.key.reveal())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context.wrap_socket(connection, server_side=True)


def test_request_is_sent_as_it_is_written() -> None:
    """Neither the path nor the headers are normalized: a test's request arrives exactly, with its own id."""
    request = Request("POST", "//a/../%2e%2E;x?b=&a=1&a=%20+", (("x-ODD", "1"), ("X-Odd", "2"), (REQUEST_ID, "7")), b"{}")

    with server(NOTHING) as (route, received), Wire(route, READER) as wire, EXCHANGES.of("test_x"):
        wire.ask(request)

    head, _, body = received[0].partition(b"\r\n\r\n")
    assert head.decode().split("\r\n") == [
        "POST /mlflow//a/../%2e%2E;x?b=&a=1&a=%20+ HTTP/1.1",
        f"Host: {wire.authority}",
        "Content-Length: 2",
        f"Authorization: Bearer {KEY}",
        "User-Agent: mlflow-proxy-e2e (test_x)",
        "x-ODD: 1",
        "X-Odd: 2",
        "X-Request-ID: 7",
    ]
    assert body == b"{}"


def test_answer_is_whole() -> None:
    """An answer keeps its headers in order, repeated ones too, and its body without the transfer coding."""
    chunked = b"HTTP/1.1 201 Created\r\nA: 1\r\na: 2\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"

    with server(chunked) as (route, _), Wire(route) as wire:
        answer = wire.ask(Request("GET", "/x"))

    assert answer == Answer(201, (("A", "1"), ("a", "2"), ("Transfer-Encoding", "chunked")), b"abcde")


def test_closed_connection_is_opened_again() -> None:
    """A connection that the other side is about to close is not used again."""
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\n"

    with server(closing + b"1", closing + b"2") as (route, _), Wire(route) as wire:
        assert [wire.ask(Request("GET", "/x")).body for _ in range(2)] == [b"1", b"2"]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_refusal_before_the_end_of_a_body(scheme: str, tmp_path: Path) -> None:
    """A refusal is received even if the body has not been read."""
    with refuser(Authority(tmp_path / "ca.pem") if scheme == "https" else None) as route, Wire(route, timeout=2) as wire:
        answer = wire.ask(Request("PUT", "/large", body=b"x" * (16 << 20)))
        is_open = wire.is_open

    assert answer.status == 413
    assert not is_open, "the rest of the body would be taken for the next request"


def test_mark_keeps_the_query() -> None:
    """A mark is added to a query without removing anything from it."""
    paths = [Request("GET", path).marked("m").path for path in ("/x", "/x?", "/x?a=1")]

    assert paths == ["/x?mark=m", "/x?mark=m", "/x?a=1&mark=m"]


def test_message_names_everything_but_the_key() -> None:
    """A message says what was sent, came and was expected, and has a command that sends it again, with the key in a variable."""
    request = Request("PUT", "/a b?c=1", (("X-Empty", ""), ("X-Quote", "it's")), b"{}")
    wire = Wire(Route("external", "https://127.0.0.1:1/api/mlflow", "ca.pem"), READER, "x-api-key")

    message = describe(wire, request, Answer(404, (), b"no"), "200", ["the status 200 became 404"])

    assert KEY not in message
    sent, came, expected, wrong, again = message.splitlines()
    assert sent == "sent      PUT /a b?c=1 as reader (x-api-key) on external"
    assert came == "came      404 (no content type) 'no'"
    assert expected == "expected  200"
    assert wrong == "wrong     the status 200 became 404"
    assert shlex.split(again.removeprefix("again     ")) == [
        *("curl", "--include", "--path-as-is", "--request", "PUT", "--cacert", "ca.pem"),
        *("--header", "X-Empty;", "--header", "X-Quote: it's", "--header", "X-API-Key: $E2E_KEY_READER"),
        *("--data-binary", "{}", "https://127.0.0.1:1/api/mlflow/a b?c=1"),
    ]


def test_kinds_of_messages() -> None:
    """Each kind of problem is shown by one example, with a count."""
    messages = [f"sent      GET /{n} as reader (bearer) on internal\ncame      500 after {n} s\nexpected  200" for n in range(3)]

    with pytest.raises(AssertionError) as failure:
        assert_none_wrong([None, *messages, "sent      GET /x\ncame      503 after 1 s\nexpected  200"])

    said = str(failure.value)
    assert said.startswith("4 of 5 calls went wrong, in 2 ways.\n\n3 like this:\nsent      GET /0 as reader")
    assert "1 like this:\nsent      GET /x" in said
    assert "GET /1" not in said


def test_queries_of_last_requests() -> None:
    """Queries of the last requests are shown, except for values that may be keys."""
    with EXCHANGES.of("test_x"):
        EXCHANGES.note("id", "GET", f"http://localhost/mlflow/get?run_id={0:032x}&max_results=1&key={'k' * 32}", 200)
        (last,) = EXCHANGES.last

    assert last.url == f"http://localhost/mlflow/get?run_id={0:032x}&max_results=1&key=…"


def test_last_requests_of_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads record requests and errors at the same time, and each error stays with its request."""
    monkeypatch.setattr(exchanges, "KEPT", THOUSAND)
    sent, interval = exchanges.Exchanges(), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def send(number: int) -> None:
        sent.note(str(number), "GET", "http://localhost/mlflow", 400)
        sent.quote(str(number), str(number).encode())

    try:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(send, range(THOUSAND)))
    finally:
        sys.setswitchinterval(interval)

    assert {exchange.request_id: exchange.said for exchange in sent.last} == {str(n): f"'{n}'" for n in range(THOUSAND)}


def test_errors_of_last_requests() -> None:
    """The beginning of an error's body is shown, without the word where it was cut."""
    with EXCHANGES.of("test_x"):
        EXCHANGES.note("id", "POST", "http://localhost/mlflow/runs/create", 400)
        EXCHANGES.quote("id", b"Invalid value " + b"x" * 200)
        section = "\n".join(map(str, EXCHANGES.last))

    assert last_call(section) == "sent      POST http://localhost/mlflow/runs/create\ncame      400 'Invalid value'"
