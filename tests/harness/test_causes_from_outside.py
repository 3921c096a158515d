"""Causes that no fault of the lab injects: each shows on a server known only by its URL and a key."""

from __future__ import annotations

import secrets
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple
from weakref import WeakSet

import pytest
import trustme

from fixtures.faults.catalogue import FAULTS
from mlflow_proxy_e2e.causes.catalogue import CATALOGUE
from mlflow_proxy_e2e.diagnosis import diagnose
from mlflow_proxy_e2e.target import Contract, Identity, Route, Secret, Target
from tests.harness.servers import Behaviour, Server, answer, closes, json_answer, says

LOOPBACK = "127.0.0.1"
KEY, OTHER_KEY = (Secret(f"hk_test_{secrets.token_hex(16)}") for _ in range(2))
IDENTITIES = (
    Identity("platform", frozenset({"read", "write"}), key=KEY),
    Identity("anonymous", refused="unauthenticated"),
)

Serving = Callable[[Path], AbstractContextManager[Route]]  # gets a folder for files


def error(status: str, code: str, message: str, *headers: str) -> bytes:
    """Return an error in MLflow's format."""
    return json_answer(status, f'{{"error_code": "{code}", "message": "{message}"}}', *headers)


UNAUTHENTICATED = error("401 Unauthorized", "UNAUTHENTICATED", "A key is required.", "WWW-Authenticate: Bearer")
FORBIDDEN = error("403 Forbidden", "PERMISSION_DENIED", "This key does not permit the call.")
NO_DATABASE = error("503 Service Unavailable", "TEMPORARILY_UNAVAILABLE", "The database refuses connections.")
FORBIDDEN_BY_FIREWALL = answer("403 Forbidden", "Content-Type: text/html", body=b"<html>Request blocked</html>")
UNAUTHENTICATED_BY_OTHERS = answer("401 Unauthorized", "WWW-Authenticate: Negotiate", body=b"Who are you?")
BAD_GATEWAY = answer("502 Bad Gateway", "Content-Type: text/html", body=b"<html>502 Bad Gateway</html>")
NO_EXPERIMENTS = json_answer("200 OK", '{"experiments": []}')
METRICS = "/metrics"
PAGE = answer("200 OK", "Content-Type: text/html", body=b"<html><h1>Sign in</h1></html>")


def to_key(good: bytes) -> Behaviour:
    """Give this answer to requests with the good key, and refuse all others as the contract says."""

    def behave(connection: socket.socket, request: bytes) -> None:
        connection.sendall(good if KEY.reveal().encode() in request else UNAUTHENTICATED)

    return behave


def with_metrics(said: bytes) -> Behaviour:
    """Serve reads to the good key only, and metrics with this text to everybody."""
    metrics = answer("200 OK", "Content-Type: text/plain", body=said)
    good = f"\r\nAuthorization: Bearer {KEY.reveal()}\r\n".encode()

    def behave(connection: socket.socket, request: bytes) -> None:
        is_open = request.startswith(f"GET {METRICS} ".encode())
        connection.sendall(metrics if is_open else NO_EXPERIMENTS if good in request else UNAUTHENTICATED)

    return behave


def trusting_connections() -> Behaviour:
    """Check the key of the first call on a connection, and let in all later ones."""
    known: WeakSet[socket.socket] = WeakSet()
    good = f"\r\nAuthorization: Bearer {KEY.reveal()}\r\n".encode()

    def behave(connection: socket.socket, request: bytes) -> None:
        if good in request + b"\r\n":
            known.add(connection)
        connection.sendall(NO_EXPERIMENTS if connection in known else UNAUTHENTICATED)

    return behave


def at(behaviour: Behaviour) -> Serving:
    """Return what serves plain HTTP with that behaviour."""

    @contextmanager
    def serving(_: Path) -> Iterator[Route]:
        with serve(behaviour) as port:
            yield Route("external", f"http://{LOOPBACK}:{port}")

    return serving


@contextmanager
def serve(behaviour: Behaviour, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Within the block, a server with that behaviour listens on the port."""
    server = Server(behaviour, tls)
    try:
        yield server.port
    finally:
        server.close()


@contextmanager
def unknown_host(_: Path) -> Iterator[Route]:
    """Within the block, the route's host name does not resolve: RFC 6761 reserves its ending for that."""
    yield Route("external", "http://mlflow.invalid")


@contextmanager
def closed_port(_: Path) -> Iterator[Route]:
    """Within the block, the route's port is bound, and nothing listens there."""
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        yield Route("external", f"http://{LOOPBACK}:{taken.getsockname()[1]}")


@contextmanager
def full_queue(_: Path) -> Iterator[Route]:
    """Within the block, connections are neither accepted nor refused, as behind a firewall: the queue's one place is taken."""
    with socket.create_server((LOOPBACK, 0), backlog=0) as listener, socket.create_connection(listener.getsockname()):
        yield Route("external", f"http://{LOOPBACK}:{listener.getsockname()[1]}")


def encrypted(present: Callable[[trustme.CA, ssl.SSLContext, Path], None]) -> Serving:
    """Return what serves HTTPS with this certificate. The first argument is the authority that the route trusts."""

    @contextmanager
    def serving(folder: Path) -> Iterator[Route]:
        trusted, tls, file = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), folder / "ca.pem"
        trusted.cert_pem.write_to_path(file)
        present(trusted, tls, folder)
        with serve(says(UNAUTHENTICATED), tls) as port:
            yield Route("external", f"https://{LOOPBACK}:{port}", str(file))

    return serving


def _valid_tomorrow(trusted: trustme.CA, tls: ssl.SSLContext, _: Path) -> None:
    now, day = datetime.now(timezone.utc), timedelta(days=1)
    trusted.issue_cert(LOOPBACK, not_before=now + day, not_after=now + 2 * day).configure_cert(tls)


def _self_signed(_: trustme.CA, tls: ssl.SSLContext, folder: Path) -> None:
    other, file = trustme.CA(), folder / "self-signed.pem"
    file.write_bytes(other.private_key_pem.bytes() + other.cert_pem.bytes())
    tls.load_cert_chain(file)


def _client_certificate_required(trusted: trustme.CA, tls: ssl.SSLContext, _: Path) -> None:
    trusted.issue_cert(LOOPBACK).configure_cert(tls)
    trusted.configure_trust(tls)
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.maximum_version = ssl.TLSVersion.TLSv1_2  # its handshake ends only after both certificates were checked


class Shown(NamedTuple):
    """What is served, the hops where something is wrong, and the causes that cannot be told apart, by default a single one."""

    serving: Serving
    hops: tuple[str, ...]
    causes: frozenset[str] = frozenset()


BY_ID: Mapping[str, Shown] = {
    "route-unresolved": Shown(unknown_host, ("edge",)),
    "route-refused": Shown(closed_port, ("edge",)),
    "route-silent": Shown(full_queue, ("edge",)),
    "route-closed": Shown(at(closes), ("edge", "proxy")),
    "route-not-http": Shown(at(says(b"SSH-2.0-OpenSSH_9.6\r\n")), ("edge",)),
    "tls-early": Shown(encrypted(_valid_tomorrow), ("edge",)),
    "tls-authority-unknown": Shown(encrypted(_self_signed), ("edge",)),
    "tls-handshake": Shown(encrypted(_client_certificate_required), ("edge",)),
    "path-asked-wrongly": Shown(at(to_key(FORBIDDEN)), ("proxy", "auth"), frozenset({"path-asked-wrongly", "wrong-service-id"})),
    "database-down": Shown(at(to_key(NO_DATABASE)), ("mlflow",)),
    "open-path-tells-key": Shown(at(with_metrics(f'calls{{key="{KEY.reveal()}"}} 1'.encode())), ("edge", "proxy")),
    "open-path-tells-address": Shown(at(with_metrics(b'up{upstream="10.0.3.17:5000"} 1')), ("edge", "proxy")),
    "sso-html-200": Shown(
        at(says(PAGE)), ("edge", "proxy"), frozenset({"sso-html-200", "rule-to-wrong-service", "address-taken-over"})
    ),
}
BY_OTHERS = {"connection-trusted"}  # have a test of their own
UNNAMED: Mapping[str, tuple[Behaviour, str]] = {
    "same-error": (says(BAD_GATEWAY), "everybody gets the same error, with a key or without"),
    "other-words": (
        to_key(UNAUTHENTICATED_BY_OTHERS),
        "a good key is refused in different words than a caller without a key",
    ),
    "forbidden": (to_key(FORBIDDEN_BY_FIREWALL), "a good key is not permitted to read, by a hop that does not say why"),
}


def target_at(route: Route) -> Target:
    """Return a target with this route and no promises."""
    return Target("outside", (route,), IDENTITIES, frozenset(), ("bearer",), contract=Contract(open_paths=(METRICS,)))


@pytest.mark.parametrize("cause", BY_ID)
def test_cause(cause: str, tmp_path: Path) -> None:
    """The cause is found, alone or with others that look the same from outside, at the hops where it can be."""
    serving, hops, causes = BY_ID[cause]

    with serving(tmp_path) as route:
        (finding,) = diagnose(target_at(route)).findings

    assert set(finding.causes) == (causes or {cause}), str(finding)
    assert finding.hops == hops


@pytest.mark.parametrize("name", UNNAMED)
def test_unnamed(name: str, tmp_path: Path) -> None:
    """A problem without a name is described, with all the hops where it may be."""
    behaviour, what = UNNAMED[name]

    with at(behaviour)(tmp_path) as route:
        (finding,) = diagnose(target_at(route)).findings

    assert (finding.causes, finding.what) == ((), (what,)), str(finding)
    assert len(finding.hops) > 1


def accepting(*keys: Secret) -> Behaviour:
    """Answer reads with these keys, and refuse all others in the contract's words."""

    def behave(connection: socket.socket, request: bytes) -> None:
        known = any(key.reveal().encode() in request for key in keys)
        connection.sendall(NO_EXPERIMENTS if known else UNAUTHENTICATED)

    return behave


def test_connection_that_is_trusted(tmp_path: Path) -> None:
    """A gate that checks only the first call on a connection is found, and nothing that follows from it is."""
    readers = (Identity("platform", frozenset({"read"}), key=KEY), Identity("anonymous", refused="unauthenticated"))
    with at(trusting_connections())(tmp_path) as route:
        (finding,) = diagnose(replace(target_at(route), identities=readers)).findings

    assert (finding.causes, finding.hops) == (("connection-trusted",), ("edge", "proxy")), str(finding)


@pytest.mark.parametrize("refused_on", ["external", "internal"])
def test_key_that_one_route_does_not_know(refused_on: str) -> None:
    """A good key that is refused on one route and accepted on another is found, at the hop where the routes differ."""
    second = Identity("second", frozenset({"read"}), key=OTHER_KEY)
    known = {name: (KEY,) if name == refused_on else (KEY, OTHER_KEY) for name in ("external", "internal")}
    with serve(accepting(*known["external"])) as external, serve(accepting(*known["internal"])) as internal:
        routes = (Route("external", f"http://{LOOPBACK}:{external}"), Route("internal", f"http://{LOOPBACK}:{internal}"))

        verdict = diagnose(Target("outside", routes, (*IDENTITIES, second), frozenset(), ("bearer",)))

    finding = next(finding for finding in verdict.findings if "keys-differ-by-route" in finding.causes)
    assert finding.causes == ("keys-differ-by-route",)
    assert "as second" in finding.evidence[0]
    assert finding.hops == (("edge",) if refused_on == "external" else ("auth",))


def test_every_cause_is_brought_about() -> None:
    """Every cause that can be named is tested: by a fault of the lab, or here."""
    assert set(FAULTS) | set(BY_ID) | BY_OTHERS == set(CATALOGUE)
    assert not set(FAULTS) & set(BY_ID)
