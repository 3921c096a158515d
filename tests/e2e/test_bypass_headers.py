"""Headers by which some proxies choose a path, a method, a host or a caller: a client cannot use them to pass the gate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient

from mlflow_proxy_e2e.checks.denials import NO_KEY
from mlflow_proxy_e2e.checks.gate import READ, SEARCH, WRITE, Gate
from mlflow_proxy_e2e.endpoints.scopes import scopes_of
from mlflow_proxy_e2e.target import Identity, Target
from mlflow_proxy_e2e.wire import Answer, Headers, Request, Wire, describe

HEALTH = "/health"

NAMES_OF_A_PATH = (
    *(
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Original-URI",
        "X-Forwarded-Uri",
        "X-Forwarded-Path",
        "X-Request-URI",
        "X-Original-Path",
    ),
    *("X-Forwarded-Url", "X-Envoy-Original-Path", "X-Accel-Redirect", "X-Proxy-URL", "Request-URI", "Destination", "Referer"),
)
NAMES_OF_A_METHOD = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Forwarded-Method", "X-Original-Method")
# A server that builds the URL of a call from its Host sees another path in these.
HOSTS_WITH_A_PATH = ("x/health?", "x/health#", "x/health/?", "x{base}/health?", "x/static-files/?", "x/#", "x/?", "x#", "x?", "x\\")
# What proxies say about the route of a request: a client must not be believed.
WAYS: tuple[Headers, ...] = (
    (("X-Forwarded-Prefix", "/health"),),
    (("X-Forwarded-Prefix", "/.."),),
    (("X-Script-Name", "/health"),),
    (("X-Forwarded-Proto", "http"),),
    (("X-Forwarded-Host", "localhost"), ("X-Forwarded-Port", "5000")),
    (("X-Forwarded-For", "127.0.0.1"), ("X-Real-IP", "127.0.0.1"), ("X-Client-IP", "127.0.0.1"), ("True-Client-IP", "::1")),
    (("X-Forwarded-For", "10.0.0.1"), ("X-Real-IP", "10.0.0.1")),
    (("User-Agent", "ELB-HealthChecker/2.0"),),
    (("User-Agent", "kube-probe/1.30"), ("Cookie", "session=x")),
    (("Forwarded", "for=127.0.0.1;host=localhost;proto=https"),),
    (("X-Forwarded-For", "127.0.0.1"), ("X-Forwarded-Uri", HEALTH), ("X-Forwarded-Method", "OPTIONS")),
    (("X-Envoy-Internal", "true"), ("X-Envoy-External-Address", "127.0.0.1")),
    (("Via", "1.1 proxy"), ("X-Forwarded-Server", "proxy")),
    (("Referer", "{url}/"), ("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Mode", "cors")),  # as from a page of the target's own
    (("X-Auth-Request-Redirect", HEALTH), ("X-Auth-Status", "200"), ("X-Ext-Authz", "allow"), ("X-Authorized", "true")),
)
# What a proxy says about a caller, sent by the client itself, under names that HTTP allows.
CALLERS: tuple[Headers, ...] = (
    (("X-Auth-User", "{name}"), ("X-Auth-Key-Id", "key_1")),
    (("x-auth-user", "{name}"), ("x-auth-key-id", "key_1")),
    (("X-AUTH-USER", "{name}"), ("X-AUTH-KEY-ID", "key_1")),
    (("X-Auth-Key-Id", "key_1"),),
    (("X-Auth-User", "{name}"), ("X-Auth-User", "{name}"), ("X-Auth-Key-Id", "key_1"), ("X-Auth-Key-Id", "key_2")),
    (("X-Auth-Scopes", "read,write"), ("X-Auth-Scope", "write"), ("X-Scopes", "read write"), ("X-Auth-Service", "mlflow")),
    (("X-Remote-User", "{name}"), ("Remote-User", "{name}"), ("X-Forwarded-User", "{name}"), ("X-WebAuth-User", "{name}")),
    (("X-User", "{name}"), ("X-User-Id", "{name}"), ("X-Authenticated-User", "{name}"), ("X-Forwarded-Groups", "admin")),
    (("X-Forwarded-Email", "{name}@example.com"), ("X-Forwarded-Preferred-Username", "{name}"), ("X-Admin", "true")),
)
# The same where a proxy may refuse the request: odd names, names that a server folds into others, and hop-by-hop ones.
ODD_CALLERS: tuple[Headers, ...] = (
    (("X_Auth_User", "{name}"), ("X_Auth_Key_Id", "key_1")),
    (("X-Auth_User", "{name}"), ("X-Auth_Key-Id", "key_1")),
    (("X_AUTH_KEY_ID", "key_1"), ("HTTP_X_AUTH_KEY_ID", "key_1")),
    (("X.Auth.Key.Id", "key_1"), ("X.Auth.User", "{name}")),
    (("X-Auth-Key-Id ", "key_1"), ("X-Auth-User ", "{name}")),
    (("X-Note", "folded\r\n X-Auth-Key-Id: key_1"),),
    (("X-Note", "folded\n X-Auth-Key-Id: key_1"), ("X-Other", "bare\nX-Auth-Key-Id: key_1")),
    (("X-Note", "bare\rX-Auth-Key-Id: key_1\rX-Auth-User: {name}"),),
    (("X-Auth-Key-Id", ""), ("X-Auth-User", "")),
    (("X-Auth-Key-Id", "key_1"), ("Connection", "X-Auth-Key-Id")),
    (("Connection", "Authorization, X-API-Key, X-Auth-User, X-Auth-Key-Id"),),
    (("X-MLflow-Proxy-Hop", "1"),),
    (("X-MLflow-Proxy-Hop", "1"), ("X-Auth-User", "{name}"), ("X-Auth-Key-Id", "key_1")),
    (("X-MLflow-Proxy-Hop", "0"), ("X-Auth-Key-Id", "key_1")),
    (("X-MLflow-Proxy-Hop", ""), ("X-Auth-Key-Id", "key_1")),
    (("X_MLflow_Proxy_Hop", "1"), ("X_Auth_Key_Id", "key_1")),
    (("X-MLflow-Proxy-Hop", "1"), ("Connection", "X-MLflow-Proxy-Hop")),
)


def with_headers(request: Request, headers: Headers, **names: str) -> Request:
    """Return the request with more headers, and the names in their values filled in."""
    return replace(request, headers=(*request.headers, *((header, value.format(**names)) for header, value in headers)))


def try_reads(gate: Gate, headers: Headers, target: Target, *, exact: bool = False) -> None:
    """Attempt the read without a key and with these headers."""
    mark = gate.marks.new()
    request = with_headers(gate.subject.read(gate.base + READ), headers, name=gate.control.name, url=gate.route.url).marked(mark)
    gate.attempt(gate.wire(), request, mark, denial=target.contract.denial(NO_KEY) if exact else None)


def try_writes(gate: Gate, reader: Identity, headers: Headers, target: Target, *, exact: bool = False) -> None:
    """Attempt the write with the reader's key and with these headers."""
    mark = gate.marks.new()
    request = with_headers(gate.subject.write(mark, gate.base + WRITE), headers, name=gate.control.name, url=gate.route.url).marked(
        mark
    )
    gate.attempt(gate.wire(reader), request, mark, denial=target.contract.denial(reader) if exact else None)


def test_path_in_header_without_key(gate: Gate, target: Target) -> None:
    """Without a key, no header replaces the requested path with an open one, or the other way round."""
    for name in NAMES_OF_A_PATH:
        try_reads(gate, ((name, HEALTH),), target)
        for base in {gate.base, ""}:
            mark = gate.marks.new()
            hidden = gate.subject.read(base + READ).marked(mark).path
            gate.attempt(gate.wire(), Request("GET", HEALTH, ((name, hidden),)), mark, harmless=None)

    gate.assert_shut()


@pytest.mark.capability("scopes")
def test_path_in_header_of_denied_write(gate: Gate, reader: Identity, target: Target) -> None:
    """With a read-only key, a header neither makes a write look like a read nor a read act as a write."""
    gate.assert_open_to_writes()

    for name in NAMES_OF_A_PATH:
        try_writes(gate, reader, ((name, gate.base + SEARCH),), target)
        try_writes(gate, reader, ((name, SEARCH),), target)
        for base in {gate.base, ""}:
            mark = gate.marks.new()
            search = gate.subject.write(mark, gate.base + SEARCH)
            hidden = gate.subject.write(mark, base + WRITE).marked(mark).path
            gate.attempt(gate.wire(reader), with_headers(search, ((name, hidden),)), mark, harmless=None)

    gate.assert_shut()


def test_method_in_header_without_key(gate: Gate, target: Target) -> None:
    """Without a key, no header turns a call into one that needs none."""
    for name in NAMES_OF_A_METHOD:
        for method in ("OPTIONS", "HEAD", "GET", "TRACE"):
            try_reads(gate, ((name, method),), target)

    gate.assert_shut()


@pytest.mark.capability("scopes")
def test_method_in_header_of_denied_write(gate: Gate, reader: Identity, target: Target) -> None:
    """With a read-only key, a header that names a reading method does not let a write through."""
    gate.assert_open_to_writes()

    for name in NAMES_OF_A_METHOD:
        for method in ("GET", "HEAD", "OPTIONS"):
            try_writes(gate, reader, ((name, method),), target)
    # The other way round: a GET with a header that names POST. It may reach MLflow where every GET is a read.
    is_read = scopes_of(target.policy).permit(reader, "GET", WRITE)
    for name in NAMES_OF_A_METHOD:
        mark = gate.marks.new()
        request = replace(gate.subject.write(mark, gate.base + WRITE), method="GET")
        gate.attempt(gate.wire(reader), with_headers(request if is_read else request.marked(mark), ((name, "POST"),)), mark)
    gate.assert_shut()


@pytest.fixture
def logged_model_id(truth: MlflowClient, experiment_id: str) -> str:
    """Return a logged model to be deleted."""
    return truth.create_logged_model(experiment_id).model_id


@pytest.mark.capability("scopes", "logged-models")
def test_method_of_denied_delete(gate: Gate, reader: Identity, logged_model_id: str, truth_wire: Wire) -> None:
    """With a read-only key, a GET deletes nothing, whatever method its header or its query names."""
    path = f"{gate.base}/api/2.0/mlflow/logged-models/{logged_model_id}"
    tricks: list[tuple[str, Headers]] = [(path, ((name, "DELETE"),)) for name in NAMES_OF_A_METHOD]
    tricks += [(f"{path}?{parameter}=DELETE", ()) for parameter in ("_method", "method", "X-HTTP-Method-Override")]

    for odd, headers in tricks:
        # It does not have the mark: as the read that it is, it may reach MLflow.
        gate.attempt(gate.wire(reader), Request("GET", odd, headers), gate.marks.new(), harmless=None)

    gate.assert_shut()
    kept = truth_wire.ask(Request("GET", path.removeprefix(gate.base)))
    sent = Request("GET", path, tuple(header for _, headers in tricks for header in headers))
    assert kept.status == 200, describe(Wire(gate.origin, reader), sent, "a deletion", "that the model is kept")


def hosts(gate: Gate, target: Target) -> Iterator[tuple[str, Headers]]:
    """Yield ways to name another host: what precedes the path, and the headers."""
    own = urlsplit(gate.route.url).netloc
    mlflow = urlsplit(target.direct.url).netloc if target.direct else "mlflow.internal:5000"
    for host in (mlflow, "localhost", "example.com", "127.0.0.1:5000", f"{own}@{mlflow}", f"{own}:80@{mlflow}", f"{own},{mlflow}"):
        yield "", (("Host", host),)
        yield "", (("Host", own), ("Host", host))
        yield "", (("Host", host), ("Host", own))
        yield "", (("X-Forwarded-Host", host), ("X-Host", host), ("Forwarded", f"host={host}"))
        yield f"http://{host}", ()
        yield f"http://{host}", (("Host", host),)
    for host in HOSTS_WITH_A_PATH:
        yield "", (("Host", host.format(base=gate.base)),)
        yield "", (("Host", own), ("Host", host.format(base=gate.base)))
    yield "", (("Host", f"x{gate.base}{SEARCH}?"),)
    yield f"http://{own}", ()
    yield f"https://{own}", ()
    yield f"HTTP://{own}", (("Host", "example.com"),)
    yield "", (("Host", ""),)


def public_answers(gate: Gate, request: Request, beginning: str) -> list[Answer]:
    """Return the answer without a key to a meaningless path below the beginning of the request's path."""
    return gate.public_answers(replace(request, path=f"{beginning}/{gate.marks.new()}"))


def test_host_without_key(gate: Gate, target: Target) -> None:
    """Without a key, no host that a request names opens the gate, in a header or before its path."""
    for before, headers in hosts(gate, target):
        for base in {gate.base, ""}:
            mark = gate.marks.new()
            request = with_headers(gate.subject.read(before + base + READ), headers).marked(mark)
            gate.attempt(gate.wire(), request, mark, harmless=public_answers(gate, request, before + base))

    gate.assert_shut()


@pytest.mark.capability("scopes")
def test_host_of_denied_write(gate: Gate, reader: Identity, target: Target) -> None:
    """With a read-only key, a write is refused whatever host it names."""
    gate.assert_open_to_writes()

    for before, headers in hosts(gate, target):
        mark = gate.marks.new()
        request = with_headers(gate.subject.write(mark, before + gate.base + WRITE), headers).marked(mark)
        harmless = public_answers(gate, request, before + gate.base)
        gate.attempt(gate.wire(reader), request, mark, harmless=harmless)

    gate.assert_shut()


def test_way_without_key(gate: Gate, target: Target) -> None:
    """Without a key, nothing that a client says about the route of its request opens the gate."""
    for headers in WAYS:
        try_reads(gate, headers, target)

    gate.assert_shut()


@pytest.mark.capability("scopes")
def test_way_of_denied_write(gate: Gate, reader: Identity, target: Target) -> None:
    """With a read-only key, a write is refused whatever is said about its route."""
    gate.assert_open_to_writes()

    for headers in WAYS:
        try_writes(gate, reader, headers, target)

    gate.assert_shut()


SPELLINGS_OF_CALLERS: Mapping[str, tuple[tuple[Headers, ...], bool]] = {"plain": (CALLERS, True), "odd": (ODD_CALLERS, False)}


@pytest.mark.parametrize("kind", SPELLINGS_OF_CALLERS)
def test_named_caller_without_key(kind: str, gate: Gate, target: Target) -> None:
    """Naming an identity in the headers that a proxy sets, however they are spelled, counts as no key."""
    spellings, exact = SPELLINGS_OF_CALLERS[kind]

    for headers in spellings:
        try_reads(gate, headers, target, exact=exact)

    gate.assert_shut()


@pytest.mark.capability("scopes")
@pytest.mark.parametrize("kind", SPELLINGS_OF_CALLERS)
def test_named_caller_of_denied_write(kind: str, gate: Gate, reader: Identity, target: Target) -> None:
    """A read-only key cannot write by naming an identity that can."""
    gate.assert_open_to_writes()
    spellings, exact = SPELLINGS_OF_CALLERS[kind]

    for headers in spellings:
        try_writes(gate, reader, headers, target, exact=exact)

    gate.assert_shut()
