"""The first profile of a target: it has what the target shows, and nothing else."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from mlflow_proxy_e2e import cli, init
from mlflow_proxy_e2e.endpoints.served import NEEDED
from mlflow_proxy_e2e.errors import BadOptionError
from mlflow_proxy_e2e.profile import load
from mlflow_proxy_e2e.target import Contract, Route, Secret, Target

KEY = "hk_test_platform0123"
SECONDS = 0.05  # between two looks at whether a server is to end
BUDGETS = NEEDED["webhooks"][1]
NOT_FOUND_OF_FLASK = "<p>The requested URL was not found on the server.</p>"


class Asked(NamedTuple):
    """The parts of a request that these targets look at."""

    method: str
    path: str
    key: str


class Said(NamedTuple):
    """Their answer."""

    status: int
    body: object = {}


Behaviour = Callable[[Asked], Said]
UNAUTHENTICATED = Said(401, {"error_code": "UNAUTHENTICATED", "message": "A key is required."})
NOTHING_TO_WRITE_TO = Said(400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "Missing value for 'run_id'."})


def mlflow(asked: Asked) -> Said:
    """Answer as MLflow does behind a proxy that lets in callers with the key."""
    if KEY not in asked.key:
        return UNAUTHENTICATED
    return NOTHING_TO_WRITE_TO if asked.path == init.WRITE.path else Said(200)


def but(method: str, path: str, said: Said) -> Behaviour:
    """Answer one call differently than ``mlflow``."""
    return lambda asked: said if (asked.method, asked.path) == (method, path) else mlflow(asked)


class Handler(BaseHTTPRequestHandler):
    """Answers as its server's behaviour says, also to clients that use it as an HTTP proxy."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        """Answer."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        key = self.headers.get("Authorization") or self.headers.get("X-API-Key") or ""
        status, body = self.server.behaviour(Asked(self.command, urlsplit(self.path).path, key))  # type: ignore[attr-defined]
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        for name, value in (("WWW-Authenticate", "Bearer"), ("Content-Length", str(len(data)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = do_OPTIONS = answer  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


Serve = Callable[[Behaviour], Route]
Begin = Callable[[Behaviour], Target]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function that starts a target with this behaviour, and returns the route to it."""
    servers: list[ThreadingHTTPServer] = []

    def start(behaviour: Behaviour) -> Route:
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        servers[-1].behaviour = behaviour  # type: ignore[attr-defined]
        threading.Thread(target=servers[-1].serve_forever, args=(SECONDS,), daemon=True).start()
        return Route("external", f"http://127.0.0.1:{servers[-1].server_port}")

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def begin(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Begin:
    """Return a function that returns the first profile of a target with this behaviour, as data."""
    monkeypatch.setenv("E2E_KEY_PLATFORM", KEY)
    file = tmp_path / "begun.toml"

    def begin(behaviour: Behaviour) -> Target:
        route = serve(behaviour)
        file.write_text(init.profile(route, init.look(route, Secret(KEY)), "E2E_KEY_PLATFORM"))
        return load(file)

    return begin


def test_who_may_write(begin: Begin) -> None:
    """A key can write if MLflow itself complains about a write, and nothing differs from the reference proxy."""
    begun = begin(mlflow)

    assert begun.identity("platform").scopes == {"read", "write"}
    assert "scopes" not in begun.capabilities
    assert begun.contract == Contract()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405])
def test_who_may_not_write(begin: Begin, status: int) -> None:
    """A key is read-only if a write is refused, whatever the status; capabilities that need writes are not denied for that."""
    refusal = Said(status, "<h1>No</h1>")

    begun = begin(lambda asked: mlflow(asked) if asked.method == "GET" or asked.path.endswith("/search") else refusal)

    assert begun.identity("platform").scopes == {"read"}
    assert begun.contract.forbidden == status
    assert begun.contract.errors == "any"
    assert {"scopes", "webhooks", "datasets"} <= begun.capabilities


def test_write_that_fails(serve: Serve) -> None:
    """An answer that is neither a refusal nor MLflow's own shows nothing, and is left to the reviewer."""
    seen = init.look(serve(but("POST", init.WRITE.path, Said(502))), Secret(KEY))

    assert seen.remarks == (init.UNKNOWN,)
    assert (seen.may_write, seen.contract) == (None, Contract())


@pytest.mark.parametrize(("status", "preflight"), [(200, "open"), (400, "open"), (401, "refused")])
def test_preflight(begin: Begin, status: int, preflight: str) -> None:
    """A browser's preflight is open if it is not refused like everything else without a key."""
    begun = begin(but("OPTIONS", "/api/2.0/mlflow/experiments/search", UNAUTHENTICATED._replace(status=status)))

    assert begun.contract.preflight == preflight


@pytest.mark.parametrize(
    "said", [Said(404, NOT_FOUND_OF_FLASK), Said(405, ""), Said(404, "not here")], ids=["older", "another", "proxy"]
)
def test_capability_of_which_a_part_is_missing(begin: Begin, said: Said) -> None:
    """A capability is promised only if all endpoints that it needs exist and let the caller through."""
    begun = begin(but(BUDGETS.method, BUDGETS.template, said))

    assert "webhooks" not in begun.capabilities
    assert "datasets" in begun.capabilities


def test_open_paths(begin: Begin) -> None:
    """Usual paths that are answered without a key are open, unless every path is."""
    begun = begin(lambda asked: Said(200) if asked.path in ("/healthz", "/metrics") else mlflow(asked))
    everything = begin(lambda asked: mlflow(asked) if asked.path.startswith("/api/") else Said(200))

    assert begun.contract == Contract(open_paths=("/healthz", "/metrics"))
    assert everything.contract == Contract()


def test_other_scheme(begin: Begin) -> None:
    """A key that only works in another scheme is sent in that scheme."""
    begun = begin(lambda asked: mlflow(asked) if asked.key == f"ApiKey {KEY}" else UNAUTHENTICATED)

    assert begun.carriers == ("apikey",)


def test_users_of_mlflow_itself(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user is named, and the password is in a variable; the examples in comments have the same form."""
    given = "somebody:and their password"
    sent = f"Basic {base64.b64encode(given.encode()).decode()}"
    monkeypatch.setenv("E2E_KEY_PLATFORM", given)
    monkeypatch.setenv("E2E_PASSWORD_PLATFORM", "and their password")
    route = serve(lambda asked: mlflow(asked._replace(key=KEY if asked.key == sent else "")))

    written = init.profile(route, init.look(route, Secret(given)), "E2E_KEY_PLATFORM")

    file = tmp_path / "begun.toml"
    file.write_text(written)
    assert load(file).identity("platform").key == Secret(given)
    assert "their password" not in written
    assert '# user = "revoked"\n# password = "env:E2E_PASSWORD_REVOKED"\n' in written


@pytest.mark.parametrize("key", [KEY, "somebody:and-their-password"])
def test_key_that_is_echoed_is_not_shown(serve: Serve, key: str) -> None:
    """A target that repeats what it was sent does not get the key shown, whatever the carrier."""
    route = serve(lambda asked: Said(403, {"error_code": "PERMISSION_DENIED", "message": asked.key}))

    with pytest.raises(BadOptionError, match="was answered 403") as raised:
        init.look(route, Secret(key))

    sent = (key, base64.b64encode(key.encode()).decode(), key.partition(":")[2] or key)
    assert not any(part in str(raised.value) for part in sent)


def test_proxy_on_the_way(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that was asked through an HTTP proxy has the proxy in its profile."""
    proxy = serve(mlflow).url
    monkeypatch.setenv("E2E_KEY_PLATFORM", KEY)

    ended = CliRunner().invoke(cli.main, ["init", "http://mlflow.invalid/mlflow", "--proxy", proxy])

    assert ended.exit_code == 0, ended.output
    file = tmp_path / "begun.toml"
    file.write_text(ended.stdout)
    assert load(file).route("external") == Route("external", "http://mlflow.invalid/mlflow", proxy=proxy)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ftp://mlflow.invalid"], "  url should begin with http:// or https://."),
        (["http://mlflow.invalid", "--proxy", "socks5://proxy.invalid"], "  proxy should begin with http:// or https://."),
        (["https://mlflow.invalid", "--ca", "missing.pem"], "  ca cannot be used: missing.pem: No such file or directory."),
    ],
)
def test_command_line_that_cannot_be(arguments: list[str], message: str) -> None:
    """Errors on the command line are reported like errors in a profile, and nothing is sent."""
    ended = CliRunner().invoke(cli.main, ["init", *arguments])

    assert ended.exit_code == BadOptionError.exit_code
    assert ended.stderr == f"The command line:\n{message}\n"
