"""What really leaves the machine when a test calls a target, recorded by a server."""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import pytest
import requests
from mlflow import MlflowClient
from mlflow.tracking._tracking_service import utils as tracking
from mlflow.tracking.request_header.registry import resolve_request_headers

from fixtures.services.edge.certificates import Authority
from mlflow_api_key import ApiKeyHeaderProvider
from mlflow_proxy_e2e.clients import FAIL_AT_ONCE, NOT_ON_THE_WAY, SHADOWING, VARIABLE, signed_in
from mlflow_proxy_e2e.rest import Rest
from mlflow_proxy_e2e.target import CARRIERS, Carrier, Identity, Route, Secret, key_headers

KEY = "hk_test_" + "k" * 32
WRITER = Identity("writer", frozenset({"read", "write"}), key=Secret(KEY))
READER = Identity("reader", frozenset({"read"}), key=Secret("hk_test_" + "r" * 32))
ANONYMOUS = Identity("anonymous", refused="unauthenticated")
CARRIED = {"bearer": {"authorization": f"Bearer {KEY}"}, "x-api-key": {"x-api-key": KEY}}
CREDENTIALS = ("authorization", "proxy-authorization", "x-api-key", "cookie")


class Received(NamedTuple):
    """A request as it arrived. ``headers`` are by their names in lower case."""

    method: str
    path: str
    headers: dict[str, str]

    @property
    def credentials(self) -> dict[str, str]:
        return {name: value for name, value in self.headers.items() if name in CREDENTIALS}


class Listener:
    """A server that records requests. It answers with an empty JSON object, and under ``/moved`` with a redirect."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.received: list[Received] = []
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                listener.received.append(Received(self.command, self.path, headers))
                self.send_response(302 if self.path.endswith("/moved") else 200)
                self.send_header("Location", f"{listener.url}/elsewhere")
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            do_GET = do_POST = do_DELETE = answer  # noqa: N815 - the names that http.server looks for

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    listening = Listener()
    yield listening
    listening.stop()


@pytest.fixture
def route(listener: Listener) -> Route:
    return Route("internal", f"{listener.url}/mlflow")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca.pem")


@pytest.fixture
def tls(authority: Authority, tmp_path: Path) -> Iterator[Listener]:
    """Listen with a certificate of ``authority``."""
    certificate, file = authority.issue("127.0.0.1"), tmp_path / "server.pem"
    file.write_text(certificate.chain + certificate.key.reveal())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    listening = Listener(context)
    yield listening
    listening.stop()


@pytest.fixture(autouse=True)
def clean_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Start without any settings for MLflow or HTTP."""
    for name in os.environ:
        if name.startswith("MLFLOW_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def crowded_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Simulate a machine with other settings: credentials in .netrc, a proxy that is down, an authority of its own."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://somebody:else@127.0.0.1:9")
        monkeypatch.setenv(name.lower(), "http://somebody:else@127.0.0.1:9")
    foreign = Authority(tmp_path / "foreign.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", foreign.file)
    monkeypatch.setenv("CURL_CA_BUNDLE", foreign.file)


# --- Rest


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.usefixtures("crowded_machine")
def test_rest_sends_the_key_as_it_is_told_to(listener: Listener, route: Route, carrier: Carrier) -> None:
    """The key goes in the carrier's header, alone, and straight to the route, whatever the machine's settings are."""
    with Rest(route, WRITER, carrier) as rest:
        answer = rest.get("/api/2.0/mlflow/runs/get")

    assert answer.status_code == 200
    assert [(r.path, r.credentials) for r in listener.received] == [("/mlflow/api/2.0/mlflow/runs/get", CARRIED[carrier])]


@pytest.mark.parametrize("identity", [None, ANONYMOUS], ids=["nobody", "anonymous"])
@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.usefixtures("crowded_machine")
def test_rest_without_a_key_sends_none(listener: Listener, route: Route, identity: Identity | None, carrier: Carrier) -> None:
    """A caller without a key sends no credentials at all: not those of .netrc either."""
    with Rest(route, identity, carrier) as rest:
        rest.get("/health")

    assert [request.credentials for request in listener.received] == [{}]


@pytest.mark.parametrize("method", ["get", "post", "delete"])
def test_rest_does_not_follow_a_redirect(listener: Listener, route: Route, method: str) -> None:
    """A redirect is returned: the key is not sent to where it leads."""
    with Rest(route, WRITER) as rest:
        answer = getattr(rest, method)("/moved")

    assert (answer.status_code, answer.headers["Location"]) == (302, f"{listener.url}/elsewhere")
    assert [request.path for request in listener.received] == ["/mlflow/moved"]


def test_rest_sends_what_it_is_given(listener: Listener, route: Route) -> None:
    """Paths are MLflow's own, and repeated parameters and a test's own headers are sent along with the key."""
    with Rest(route, WRITER) as rest:
        rest.get("/a%2Fb", params=[("run_ids", "1"), ("run_ids", "2")], headers={"X-Auth-User": "mallory"})

    (request,) = listener.received
    assert request.path == "/mlflow/a%2Fb?run_ids=1&run_ids=2"
    assert (request.headers["x-auth-user"], request.credentials) == ("mallory", CARRIED["bearer"])


@pytest.mark.usefixtures("crowded_machine")
def test_rest_trusts_the_routes_authority(tls: Listener, authority: Authority) -> None:
    """A route's certificate is checked against the authority of the route, whatever this machine's bundle has in it."""
    with Rest(Route("external", tls.url, authority.file), WRITER) as rest:
        assert rest.get("/health").status_code == 200


def test_rest_trusts_nobody_else(tls: Listener, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """A route without an authority of its own is checked against the public ones, whatever the machine's bundle contains."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", authority.file)

    with Rest(Route("external", tls.url), WRITER) as rest, pytest.raises(requests.exceptions.SSLError):
        rest.get("/health")

    assert tls.received == []


# --- signed_in


@pytest.mark.parametrize("carrier", CARRIERS)
def test_the_mlflow_client_sends_the_key(listener: Listener, route: Route, carrier: Carrier) -> None:
    """The client within the block, and the fluent API beside it, call the route and send the key as they are told to."""
    with signed_in(route, WRITER, carrier) as client:
        client.search_experiments()
        mlflow.search_experiments()
        client.search_registered_models()

    assert {request.path.partition("?")[0].removesuffix("/search") for request in listener.received} == {
        "/mlflow/api/2.0/mlflow/experiments",
        "/mlflow/api/2.0/mlflow/registered-models",
    }
    assert [request.credentials for request in listener.received] == [CARRIED[carrier]] * 3


@pytest.mark.parametrize("carrier", CARRIERS)
def test_other_credentials_do_not_take_the_keys_place(
    listener: Listener, route: Route, carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user name, a plugin or another key from the machine's settings is not sent, not even for a caller without a key."""
    for name in (*SHADOWING, *VARIABLE.values()):
        monkeypatch.setenv(name, "true" if name == "MLFLOW_TRACKING_AWS_SIGV4" else "somebody-else")

    with signed_in(route, WRITER, carrier) as client:
        client.search_experiments()
    with signed_in(route, ANONYMOUS, carrier) as client:
        client.search_experiments()

    assert [request.credentials for request in listener.received] == [CARRIED[carrier], {}]


def test_the_mlflow_client_trusts_the_routes_authority(
    tls: Listener, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow checks a route's certificate against the authority of the route, whatever this machine's bundle has in it."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", Authority(tmp_path / "foreign.pem").file)

    with signed_in(Route("external", tls.url, authority.file), WRITER) as client:
        client.search_experiments()

    assert [request.credentials for request in tls.received] == [CARRIED["bearer"]]


class State(NamedTuple):
    """The settings that decide where MLflow's calls go, and as whom."""

    environment: dict[str, str]
    tracking_uri: str
    registry_uri: str

    @classmethod
    def now(cls) -> State:
        return cls(dict(os.environ), mlflow.get_tracking_uri(), mlflow.get_registry_uri())


def test_signing_in_lasts_for_the_block(route: Route, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the block MLflow goes to the route as the identity and fails at once; after it, everything is as it was."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "somebody else's")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    before = State.now()

    with signed_in(Route("external", route.url, str(tmp_path)), WRITER, "x-api-key"):
        within = State.now()

    assert (within.tracking_uri, within.registry_uri) == (route.url, route.url)
    assert within.environment == {
        **{name: value for name, value in before.environment.items() if name != "MLFLOW_TRACKING_TOKEN"},
        **FAIL_AT_ONCE,
        "MLFLOW_TRACKING_API_KEY": KEY,
        "MLFLOW_TRACKING_SERVER_CERT_PATH": str(tmp_path),
        **dict.fromkeys(NOT_ON_THE_WAY, "*"),
        # set by MLflow itself, for the processes that it starts
        "MLFLOW_TRACKING_URI": route.url,
        "MLFLOW_REGISTRY_URI": route.url,
    }
    assert State.now() == before


def test_blocks_may_be_nested(listener: Listener, route: Route) -> None:
    """The inner block counts, and however it ends, the outer one counts again afterwards."""
    elsewhere = Route("external", f"{listener.url}/elsewhere")
    before = State.now()

    with signed_in(route, WRITER):
        outer = State.now()
        with pytest.raises(RuntimeError), signed_in(elsewhere, READER, "x-api-key"):  # noqa: PT012 - as a failing test would
            MlflowClient().search_experiments()
            raise RuntimeError
        assert State.now() == outer
        MlflowClient().search_experiments()

    assert State.now() == before
    assert [request.path.split("/")[1] for request in listener.received] == ["elsewhere", "mlflow"]
    assert [request.credentials for request in listener.received] == [{"x-api-key": "hk_test_" + "r" * 32}, CARRIED["bearer"]]


def test_artifacts_are_reached_by_the_route_that_counts(route: Route) -> None:
    """MLflow's cache of how it reached a run's artifacts does not outlive a block: the next one may use another route."""
    with signed_in(route, WRITER):
        tracking._artifact_repos_cache["run"] = "reached through the outer block's route"

        with signed_in(Route("direct", route.url)):
            assert not tracking._artifact_repos_cache


# --- the header provider


def test_the_provider_is_registered() -> None:
    """MLflow finds the provider by the entry point of the installed package."""
    (found,) = entry_points(group="mlflow.request_header_provider", name="api-key")

    assert found.load() is ApiKeyHeaderProvider


@pytest.mark.parametrize("value", [KEY, f"{KEY}\n", f"{KEY}\r\n", f" {KEY} "])
def test_the_provider_sends_the_key(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """The key is stripped of surrounding white space from a file: a line break in a header makes every call fail."""
    monkeypatch.setenv("MLFLOW_TRACKING_API_KEY", value)

    assert headers_added_by_plugins()["X-API-Key"] == KEY


@pytest.mark.parametrize(
    ("carrier", "header", "value"), [("apikey", "Authorization", f"ApiKey {KEY}"), ("X-Custom-Key", "X-Custom-Key", KEY)]
)
def test_other_carriers(carrier: str, header: str, value: str, route: Route) -> None:
    """Scripts and, with the plug-in, MLflow's client send a key under a different scheme or in a different header."""
    assert key_headers(WRITER, carrier) == {header: value}

    with signed_in(route, WRITER, carrier):
        added = headers_added_by_plugins()

    assert added[header] == value
    assert "MLFLOW_TRACKING_API_KEY_HEADER" not in os.environ


@pytest.mark.parametrize("value", [None, "", "\n"])
def test_the_provider_is_silent_without_a_key(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    """Without a key there is no header, rather than an empty one that a proxy would take for a bad key."""
    if value is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_API_KEY", value)

    assert "X-API-Key" not in headers_added_by_plugins()


def headers_added_by_plugins() -> dict[str, str]:
    """Return the headers that registered plugins make MLflow add to its requests."""
    added: dict[str, str] = resolve_request_headers()  # type: ignore[no-untyped-call]
    return added
