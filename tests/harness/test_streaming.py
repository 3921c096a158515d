"""Streams arrive as they are sent: the hops pass on each part without waiting for the next.

MLflow alone cannot show it, as it needs a language model to stream. A server controlled by the tests takes its place.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Iterator

import pytest

from fixtures.services import Address
from fixtures.services.auth import auth
from fixtures.services.edge import PREFIX as EDGE_PREFIX
from fixtures.services.edge import edge
from fixtures.services.edge.certificates import Authority
from fixtures.services.proxy import PREFIX as PROXY_PREFIX
from fixtures.services.proxy import proxy
from fixtures.stack.identities import IDENTITIES, SERVICE, equip
from fixtures.stack.ports import LOOPBACK, Ports
from fixtures.stack.process import start_process
from mlflow_proxy_e2e.keys import Keys
from mlflow_proxy_e2e.target import Identity, KeyService, Route, Secret
from mlflow_proxy_e2e.wire import Request, Wire
from tests.harness.conftest import wait_until

SECONDS = 30.0  # for anything to arrive: otherwise it is held back
STREAM = Request("GET", "/ajax-api/3.0/mlflow/assistant/sessions/one/stream")
UPLOAD = Request("PUT", "/api/2.0/mlflow-artifacts/artifacts/slow.bin", (("Content-Length", "10"),))
EVENTS = (b"data: one\n\n", b"data: two\n\n")


@pytest.fixture(scope="module")
def upstream() -> Iterator[socket.socket]:
    """Return the server in MLflow's place."""
    with socket.create_server((LOOPBACK, 0)) as server:
        server.settimeout(SECONDS)
        yield server


@pytest.fixture(scope="module")
def hops(upstream: socket.socket, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Route], Identity]]:
    """Return the routes to it, through the real edge and proxy, and an identity that is allowed to use them."""
    folder, ports, token = tmp_path_factory.mktemp("hops"), Ports(), Secret(secrets.token_urlsafe())
    authority = Authority(folder / "ca.pem")
    at = {name: ports.take(name) for name in ("auth", "proxy", "edge")}
    services = (
        auth(at["auth"], admin_token=token),
        proxy(at["proxy"], mlflow=Address(*upstream.getsockname()), auth=at["auth"]),
        edge(at["edge"], proxy=at["proxy"], prefix=PROXY_PREFIX, authority=authority, names=(LOOPBACK,)),
    )
    with contextlib.ExitStack() as running:
        running.callback(ports.release)
        for service in services:
            home = folder / service.name
            home.mkdir()
            process = start_process(service, home).process
            running.callback(process.wait)
            running.callback(process.kill)
        for address in at.values():
            _wait_for(address)
        routes = {
            "external": Route("external", f"https://{at['edge']}{EDGE_PREFIX}", str(folder / "ca.pem")),
            "internal": Route("internal", f"http://{at['proxy']}{PROXY_PREFIX}"),
        }
        yield routes, equip(IDENTITIES[0], Keys(KeyService(f"http://{at['auth']}", SERVICE, token)))


@pytest.fixture(params=["external", "internal"])
def client(request: pytest.FixtureRequest, hops: tuple[dict[str, Route], Identity]) -> Iterator[Wire]:
    """Return a connection through each route."""
    routes, identity = hops
    with Wire(routes[request.param], identity, timeout=SECONDS) as wire:
        yield wire


def test_answer_in_parts(client: Wire, upstream: socket.socket) -> None:
    """The client has the first event of a stream before the second has been sent."""
    client.send(client.encode(STREAM))
    server = _accept(upstream)
    with server:
        _read_until(server, b"\r\n\r\n")
        server.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + EVENTS[0])
        received = _read_until(client, EVENTS[0])
        server.sendall(EVENTS[1])

    assert b" 200 " in received
    assert EVENTS[1] not in received
    assert _read_until(client, EVENTS[1])


def test_upload_in_parts(client: Wire, upstream: socket.socket) -> None:
    """MLflow has the first half of an upload before the second has been sent."""
    client.send(client.encode(UPLOAD) + b"first")
    server = _accept(upstream)
    with server:
        received = _read_until(server, b"first")
        client.send(b"-half")
        rest = _read_until(server, b"-half")
        server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        answer = client.receive("PUT")

    assert (received.endswith(b"first"), rest, answer.status) == (True, b"-half", 200)


def _accept(upstream: socket.socket) -> socket.socket:
    server, _ = upstream.accept()
    server.settimeout(SECONDS)
    return server


def _read_until(side: socket.socket | Wire, text: bytes) -> bytes:
    """Return what arrives, up to a text. Raises TimeoutError if it is held back."""
    received = b""
    while text not in received:
        part = side.receive_some() if isinstance(side, Wire) else side.recv(65536)
        assert part, f"ended after {received!r}, before {text!r}"
        received += part
    return received


def _wait_for(address: Address) -> None:
    def listens() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(address[:2], 1):
            return True
        return False

    wait_until(listens, SECONDS)
