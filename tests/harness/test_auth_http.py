"""The auth service over HTTP, with request targets sent exactly as written."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI

from fixtures.services.auth.app import create_app
from fixtures.services.auth.keys import KeyStore

ADMIN_TOKEN = "the token of the harness"
TIMEOUT = 10.0  # seconds, for any one answer
KEYS = "/api/v1/keys"
VALIDATE = f"{KEYS}/validate"
READ = "/api/2.0/mlflow/runs/get"
WRITE = "/api/2.0/mlflow/runs/create"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"

UNAUTHENTICATED = {
    "error_code": "UNAUTHENTICATED",
    "message": "A valid API key is required: send it as 'Authorization: Bearer' or 'X-API-Key'.",
}
DENIED = {"error_code": "PERMISSION_DENIED", "message": "This API key does not permit the call."}
LIMITED = {"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "This API key is over its rate limit."}
WISH = {"user_id": "ada", "service_id": "mlflow", "scopes": ["read", "write"]}

Headers = dict[str, str]


@dataclass(frozen=True)
class Answer:
    """An answer. ``headers`` are by their names in lower case."""

    status: int
    headers: Headers
    text: str

    @property
    def body(self) -> Any:
        return json.loads(self.text)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.status, self.body))


class Service:
    """A running auth service. Request targets are sent exactly as given, without a client that normalizes them."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, method: str, target: str, headers: Headers | None = None, body: str | bytes | None = None) -> Answer:
        """Send a request."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        try:
            connection.request(method, target, body, headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode())
        finally:
            connection.close()

    def ask_json(self, method: str, target: str, token: str | None, body: Any = None) -> Answer:
        """Send ``body`` as JSON, with ``token``."""
        headers = {"Content-Type": "application/json"} | (bearer(token) if token is not None else {})
        return self.ask(method, target, headers, None if body is None else json.dumps(body))

    def create(self, **wanted: Any) -> dict[str, Any]:
        """Create a key, with defaults for whatever is not given, and return the service's answer."""
        answer = self.ask_json("POST", KEYS, ADMIN_TOKEN, {**WISH, **wanted})
        assert answer.status == 201
        created: dict[str, Any] = answer.body
        return created

    def listed(self, key_id: str) -> list[dict[str, Any]]:
        """Return what is listed under that id."""
        return [key for key in self.ask("GET", KEYS, bearer(ADMIN_TOKEN)).body if key["key_id"] == key_id]

    def authorize(self, path: str, headers: Headers, method: str = "GET", of: str = "mlflow") -> Answer:
        """Ask whether a call of the service ``of`` is permitted."""
        return self.ask(method, f"/authorize/{of}{path}", headers)

    def forward_auth(self, path: str, headers: Headers, method: str = "GET") -> Answer:
        """Ask the same of MLflow the way Caddy and Traefik do, about a public path."""
        return self.ask("GET", "/forward-auth/mlflow", {**headers, **described(method, path)})


@contextmanager
def serving(app: FastAPI) -> Iterator[int]:
    """Serve the application, and yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:  # earlier calls wait in the server's queue
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    store = KeyStore(tmp_path_factory.mktemp("auth") / "keys.sqlite")
    with serving(create_app(store, ADMIN_TOKEN)) as port:
        yield Service(port)
    store.close()


@pytest.fixture(scope="module")
def writer(service: Service) -> Headers:
    return bearer(service.create(user_id="writer")["key"])


@pytest.fixture(scope="module")
def reader(service: Service) -> Headers:
    return bearer(service.create(user_id="reader", scopes=["read"])["key"])


def described(method: str, path: str) -> Headers:
    """Return the headers in which Caddy and Traefik describe a call."""
    return {"X-Forwarded-Method": method, "X-Forwarded-Uri": path}


def bearer(token: str) -> Headers:
    return {"Authorization": f"Bearer {token}"}


# --- keys: created, listed, revoked


def test_a_new_key_is_shown_with_its_secret_once(service: Service) -> None:
    """The answer to a new key has the requested properties and the secret; the list has the same, but never the secret."""
    created = service.create(scopes=["write", "read"], expires_at="2100-01-02T03:04:05+01:00", rate_limit_per_hour=5)

    secret, key_id = created.pop("key"), created.pop("key_id")
    everything = service.ask("GET", KEYS, bearer(ADMIN_TOKEN))
    assert created == {
        "user_id": "ada",
        "service_id": "mlflow",
        "scopes": ["read", "write"],
        "expires_at": "2100-01-02T02:04:05Z",
        "rate_limit_per_hour": 5,
        "revoked": False,
    }
    assert service.listed(key_id) == [{"key_id": key_id, **created}]
    assert secret not in everything.text
    assert '"key"' not in everything.text


def test_what_is_not_wanted_of_a_key_is_not_there(service: Service) -> None:
    """Without an expiry and a limit, a key has neither."""
    created = service.create()

    assert (created["expires_at"], created["rate_limit_per_hour"]) == (None, None)


@pytest.mark.parametrize("expires_at", ["1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_an_expiry_is_told_as_it_was_given(service: Service, expires_at: str) -> None:
    """However long ago or far ahead a key expires, it is listed with the requested time."""
    created = service.create(expires_at=expires_at)

    assert created["expires_at"] == expires_at


def test_a_revoked_key_is_good_for_nothing(service: Service) -> None:
    """A good key is refused by every endpoint once it is revoked; revoking it again is not an error."""
    created = service.create()
    shown = bearer(created["key"])
    assert service.authorize(READ, shown).status == 200

    answers = [service.ask("DELETE", f"{KEYS}/{created['key_id']}", bearer(ADMIN_TOKEN)) for _ in range(2)]

    assert [(answer.status, answer.text) for answer in answers] == [(204, "")] * 2
    assert service.listed(created["key_id"])[0]["revoked"] is True
    assert tuple(service.authorize(READ, shown)) == (401, UNAUTHENTICATED)
    assert tuple(service.ask_json("POST", VALIDATE, created["key"], {"service_id": "mlflow"})) == (401, UNAUTHENTICATED)


@pytest.mark.parametrize("key_id", ["key_0", "validate", "%25", "hk_test_secret"])
def test_what_is_not_a_key_cannot_be_revoked(service: Service, key_id: str) -> None:
    """Revoking a key that does not exist is an error, whose message does not repeat the id."""
    answer = service.ask("DELETE", f"{KEYS}/{key_id}", bearer(ADMIN_TOKEN))

    assert tuple(answer) == (404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "There is no such key."})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ADMIN_TOKEN},
        {"Authorization": f"Basic {ADMIN_TOKEN}"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"X-API-Key": ADMIN_TOKEN},
        bearer(ADMIN_TOKEN[:-1]),
        bearer(ADMIN_TOKEN + "x"),
        bearer(ADMIN_TOKEN.upper()),
        bearer("\xff\xfe"),
    ],
    ids=["none", "no scheme", "basic", "no token", "empty", "other header", "shorter", "longer", "upper case", "not ascii"],
)
def test_keys_are_the_administrators(service: Service, headers: Headers) -> None:
    """Only the administrator lists, creates or revokes keys, and a refusal leaves them unchanged."""
    key_id = service.create()["key_id"]
    before = service.ask("GET", KEYS, bearer(ADMIN_TOKEN)).body

    answers = [
        service.ask("GET", KEYS, headers),
        service.ask("POST", KEYS, {**headers, "Content-Type": "application/json"}, json.dumps(WISH)),
        service.ask("DELETE", f"{KEYS}/{key_id}", headers),
    ]

    assert [tuple(answer) for answer in answers] == [(401, UNAUTHENTICATED)] * 3
    assert {answer.headers["www-authenticate"] for answer in answers} == {'Bearer realm="mlflow"'}
    assert service.ask("GET", KEYS, bearer(ADMIN_TOKEN)).body == before


def test_keys_and_the_token_are_not_each_other(service: Service) -> None:
    """A key with every scope cannot make keys, and the administrator's token is not a key."""
    key = service.create()["key"]

    assert tuple(service.ask_json("POST", KEYS, key, WISH)) == (401, UNAUTHENTICATED)
    assert tuple(service.ask_json("POST", VALIDATE, ADMIN_TOKEN, {"service_id": "mlflow"})) == (401, UNAUTHENTICATED)
    assert tuple(service.authorize(READ, bearer(ADMIN_TOKEN))) == (401, UNAUTHENTICATED)


# --- requests that are malformed

ODD = "hk_test_shown_in_the_wrong_place"


MALFORMED: dict[str, list[Any]] = {
    "user_id": [None, 1, [], "", "a b", f"{ODD} ", f"{ODD}\n", f"{ODD}/", ODD * 10],
    "service_id": [None, 1, "", f"{ODD}/..", f"{ODD}%", f"{ODD}?"],
    "scopes": [None, "read", [ODD], ["read", ODD], ["READ"], ["read", None], ["read", "write", "read"]],
    "expires_at": [0, True, ODD, "tomorrow", "2100-01-01", "2100-01-01T00:00:00", "2100-13-01T00:00:00Z", [ODD]],
    "rate_limit_per_hour": [-1, 1.5, 2**40, True, "5", ODD, [ODD]],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in MALFORMED.items() for value in values])
def test_a_malformed_wish_is_refused(service: Service, field: str, value: Any) -> None:
    """A malformed request creates no key: the answer names the field, but does not repeat its value."""
    before = service.ask("GET", KEYS, bearer(ADMIN_TOKEN)).body

    answer = service.ask_json("POST", KEYS, ADMIN_TOKEN, {**WISH, field: value})

    assert answer.status == 400
    assert_malformed(answer, f"body.{field}")
    assert service.ask("GET", KEYS, bearer(ADMIN_TOKEN)).body == before


@pytest.mark.parametrize("user_id", ["Zoë", "林"], ids=["latin", "chinese"])
def test_a_user_is_named_so_that_a_header_can_name_it(service: Service, user_id: str) -> None:
    """A user whose name does not fit into the identity header gets no key: every call with it would fail."""
    answer = service.ask_json("POST", KEYS, ADMIN_TOKEN, {**WISH, "user_id": user_id})

    assert answer.status == 400
    assert_malformed(answer, "body.user_id")


@pytest.mark.parametrize("field", sorted(WISH))
def test_an_incomplete_wish_is_refused(service: Service, field: str) -> None:
    """A request without a required field creates no key, and the answer names the field."""
    answer = service.ask_json("POST", KEYS, ADMIN_TOKEN, {name: value for name, value in WISH.items() if name != field})

    assert answer.status == 400
    assert_malformed(answer, f"body.{field}")


def test_a_field_that_there_is_not_is_refused(service: Service) -> None:
    """A misspelt field is an error: a key without its intended expiry would be valid for ever."""
    answer = service.ask_json("POST", KEYS, ADMIN_TOKEN, {**WISH, "expires": ODD})

    assert answer.status == 400
    assert_malformed(answer, "body.expires")


@pytest.mark.parametrize(("target", "token"), [(KEYS, ADMIN_TOKEN), (VALIDATE, "not a key")], ids=["create", "validate"])
@pytest.mark.parametrize(
    "body",
    [None, "", "{", f'"{ODD}"', f'["{ODD}"]', "null", f'{{"user_id": {ODD}}}', b"\xff\xfe{}", "[" * 10_000],
    ids=["none", "empty", "cut short", "string", "list", "null", "not quoted", "not utf-8", "too deep"],
)
def test_what_is_no_json_object_is_refused(service: Service, target: str, token: str, body: str | bytes | None) -> None:
    """A body that is not a JSON object is malformed."""
    answer = service.ask("POST", target, {"Content-Type": "application/json", **bearer(token)}, body)

    assert answer.status == 400
    assert set(answer.body) == {"error_code", "message"}
    assert ODD not in answer.text


@pytest.mark.parametrize(
    ("field", "value"),
    [("service_id", None), ("service_id", ""), ("service_id", f"{ODD}/"), ("client_ip", 1), ("client_ip", ODD * 10), ("key", ODD)],
)
def test_a_malformed_question_is_refused(service: Service, field: str, value: Any) -> None:
    """A malformed question about a key is refused with the name of the field, and does not count against the key's limit."""
    key = service.create(rate_limit_per_hour=1)["key"]

    answer = service.ask_json("POST", VALIDATE, key, {"service_id": "mlflow", field: value})

    assert answer.status == 400
    assert_malformed(answer, f"body.{field}")
    assert service.ask_json("POST", VALIDATE, key, {"service_id": "mlflow"}).status == 200


def assert_malformed(answer: Answer, field: str) -> None:
    """Assert that the body has MLflow's format and names the field, but does not repeat its value."""
    assert set(answer.body) == {"error_code", "message"}
    assert answer.body["error_code"] == "INVALID_PARAMETER_VALUE"
    assert field in answer.body["message"]
    assert ODD not in answer.text


# --- validate: what existing proxies ask


@pytest.mark.parametrize("question", [{"service_id": "mlflow", "client_ip": "10.0.0.1"}, {"service_id": "mlflow"}])
def test_a_good_key_is_valid(service: Service, question: dict[str, str]) -> None:
    """The answer about a good key is exactly what a proxy needs to know of it."""
    created = service.create(user_id="grace", scopes=["read"], rate_limit_per_hour=100)

    answer = service.ask_json("POST", VALIDATE, created["key"], question)

    assert tuple(answer) == (
        200,
        {
            "user_id": "grace",
            "key_id": created["key_id"],
            "service_id": "mlflow",
            "scopes": ["read"],
            "rate_limit_per_hour": 100,
        },
    )


def test_the_answer_names_the_service_of_the_key(service: Service) -> None:
    """A proxy that asks about a key for another service learns which service the key is for."""
    created = service.create(service_id="billing")

    answer = service.ask_json("POST", VALIDATE, created["key"], {"service_id": "mlflow"})

    assert (answer.status, answer.body["service_id"]) == (200, "billing")


@pytest.mark.parametrize("key", [None, "", "not-a-key", "hk_test_" + "a" * 32, "\xff"])
def test_a_bad_key_is_not_valid(service: Service, key: str | None) -> None:
    """A missing, a malformed and an unknown key get the same refusal, which says how to send one."""
    answer = service.ask_json("POST", VALIDATE, key, {"service_id": "mlflow"})

    assert tuple(answer) == (401, UNAUTHENTICATED)
    assert answer.headers["www-authenticate"] == 'Bearer realm="mlflow"'


def test_an_expired_key_is_not_valid(service: Service) -> None:
    """An expired key is refused like an unknown one."""
    created = service.create(expires_at="2001-01-01T00:00:00Z")

    assert tuple(service.ask_json("POST", VALIDATE, created["key"], {"service_id": "mlflow"})) == (401, UNAUTHENTICATED)
    assert tuple(service.authorize(READ, bearer(created["key"]))) == (401, UNAUTHENTICATED)


def test_a_key_over_its_limit_is_told_when_to_come_again(service: Service) -> None:
    """Both endpoints count a key's calls; when none are left, both say so, and for how long."""
    created = service.create(rate_limit_per_hour=2)
    assert service.ask_json("POST", VALIDATE, created["key"], {"service_id": "mlflow"}).status == 200
    assert service.authorize(READ, bearer(created["key"])).status == 200

    answers = [
        service.ask_json("POST", VALIDATE, created["key"], {"service_id": "mlflow"}),
        service.authorize(READ, bearer(created["key"])),
    ]

    assert [tuple(answer) for answer in answers] == [(429, LIMITED)] * 2
    assert all(0 < int(answer.headers["retry-after"]) <= 3600 for answer in answers)


# --- authorize: for a proxy's external authorization


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", READ),
        ("HEAD", READ),
        ("POST", WRITE),
        ("PUT", f"{ARTIFACTS}/0/model.pkl"),
        ("PATCH", "/api/2.0/mlflow/registered-models/update"),
        ("DELETE", "/api/2.0/mlflow/registered-models/delete"),
    ],
)
def test_a_permitted_call_is_told_who_makes_it(service: Service, method: str, path: str) -> None:
    """The answer to a call that a key permits names the user and the key in headers, and has no body."""
    created = service.create(user_id="ada@example.com")

    answer = service.authorize(path, bearer(created["key"]), method)

    assert (answer.status, answer.text) == (200, "")
    assert answer.headers["x-auth-user"] == "ada@example.com"
    assert answer.headers["x-auth-key-id"] == created["key_id"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_every_method_needs_a_key(service: Service, method: str) -> None:
    """Without a key, no method on any path gets through, OPTIONS included; nobody is named."""
    for path in (READ, "/health", "/", ""):
        answer = service.authorize(path, {}, method)

        assert answer.status == 401
        assert answer.headers["www-authenticate"] == 'Bearer realm="mlflow"'
        assert not any(name.startswith("x-auth-") for name in answer.headers)


def test_who_a_caller_claims_to_be_is_not_who_it_is(service: Service) -> None:
    """The identity is the key's, whatever identity headers the caller sends."""
    created = service.create(user_id="mallory")

    answer = service.authorize(READ, {**bearer(created["key"]), "X-Auth-User": "ada", "X-Auth-Key-Id": "key_0"})

    assert (answer.headers["x-auth-user"], answer.headers["x-auth-key-id"]) == ("mallory", created["key_id"])


def test_a_key_comes_in_either_header(service: Service) -> None:
    """``X-API-Key`` is as good as ``Authorization: Bearer``, in any case of the scheme."""
    created = service.create()

    for headers in ({"X-API-Key": created["key"]}, bearer(created["key"]), {"authorization": f"bearer {created['key']}"}):
        answer = service.authorize(READ, headers)
        assert (answer.status, answer.headers["x-auth-key-id"]) == (200, created["key_id"])


def test_a_bearer_comes_before_an_api_key(service: Service) -> None:
    """With two keys, the bearer token counts, whether good or bad; other credentials in its header are not a key."""
    first, second = service.create(), service.create()
    api_key = {"X-API-Key": second["key"]}

    both = service.authorize(READ, bearer(first["key"]) | api_key)
    bad = service.authorize(READ, bearer("not-a-key") | api_key)
    basic = service.authorize(READ, {"Authorization": "Basic YTpi"} | api_key)

    assert (both.status, both.headers["x-auth-key-id"]) == (200, first["key_id"])
    assert tuple(bad) == (401, UNAUTHENTICATED)
    assert (basic.status, basic.headers["x-auth-key-id"]) == (200, second["key_id"])


@pytest.mark.parametrize(
    "query",
    [
        "api_key={key}",
        "API-Key={key}",
        "apikey={key}",
        "x-api-key=",
        "access_token={key}",
        "run_id=1&x_api_key={key}",
        "run_id={key}",
        "run_id=1;token={key}",
        "%61pi_key=x",
        "run_id=hk%5Ftest%5Fx",
        "{key}",
        "{key}=1",
    ],
)
def test_a_key_in_the_query_is_refused(service: Service, query: str) -> None:
    """A key in the URL is refused, alone or next to a good one in a header: it is in logs by then."""
    key = service.create()["key"]
    target = f"{READ}?{query.format(key=key)}"

    assert tuple(service.authorize(target, {})) == (401, UNAUTHENTICATED)
    assert tuple(service.authorize(target, bearer(key))) == (401, UNAUTHENTICATED)


@pytest.mark.parametrize(
    "query", ["run_id=1", "run_id=", "", "key=alpha&run_ids=a&run_ids=b", "filter=name%20%3D%20%27a%26b%27", "%FF=%"]
)
def test_any_other_query_is_mlflows(service: Service, reader: Headers, query: str) -> None:
    """Parameters that are not a key are not the auth service's business."""
    assert service.authorize(f"{READ}?{query}", reader).status == 200


def test_a_key_is_of_one_service(service: Service) -> None:
    """A key for another service permits nothing here, and one for this service nothing there."""
    theirs, ours = service.create(service_id="billing"), service.create()

    assert tuple(service.authorize(READ, bearer(theirs["key"]))) == (403, DENIED)
    assert tuple(service.authorize(READ, bearer(ours["key"]), of="billing")) == (403, DENIED)
    assert service.authorize(READ, bearer(theirs["key"]), of="billing").status == 200


def test_a_call_needs_its_scope(service: Service, reader: Headers, writer: Headers) -> None:
    """Reading does not permit writing, nor writing reading; a key without scopes permits nothing."""
    only_write = bearer(service.create(scopes=["write"])["key"])
    no_scope = bearer(service.create(scopes=[])["key"])
    statuses = {
        who: (service.authorize(READ, headers).status, service.authorize(WRITE, headers, "POST").status)
        for who, headers in {"reader": reader, "writer": writer, "only write": only_write, "no scope": no_scope}.items()
    }

    assert statuses == {"reader": (200, 403), "writer": (200, 200), "only write": (403, 200), "no scope": (403, 403)}
    assert tuple(service.authorize(WRITE, reader, "POST")) == (403, DENIED)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/2.0/mlflow/no-such-endpoint"),
        ("DELETE", READ),
        ("OPTIONS", READ),
        ("GET", "/health/more"),
        ("GET", "/no%0Asuch"),
        ("GET", f"/mlflow{READ}"),
        ("GET", f"/authorize/mlflow{READ}"),
    ],
)
def test_what_is_not_classified_is_denied(service: Service, writer: Headers, method: str, path: str) -> None:
    """A key with every scope does not permit endpoints that are not classified."""
    assert tuple(service.authorize(path, writer, method)) == (403, DENIED)


@pytest.mark.parametrize(
    "path",
    [
        f"{ARTIFACTS}/0/a%2Fb",
        f"{ARTIFACTS}/0/a%20b%C3%BC",
        f"{ARTIFACTS}/0/a%252e%252e%252fb",
        f"{ARTIFACTS}/0/semi;colon",
        f"{ARTIFACTS}/0/%3Fwhat%23",
        f"{ARTIFACTS}/0/%FF",
        "/api/2.0/mlflow%2Fruns/get",
    ],
)
def test_an_escaped_path_is_judged_as_mlflow_will_see_it(service: Service, reader: Headers, path: str) -> None:
    """Any path that MLflow takes for one of its endpoints and a name within it is classified as that endpoint."""
    assert service.authorize(path, reader).status == 200


@pytest.mark.parametrize(
    "path",
    [
        f"/{READ}",
        READ.replace("/runs", "//runs"),
        READ.replace("/runs", "/./runs"),
        READ.replace("/runs", "/x/../runs"),
        READ.replace("/runs", "/x/%2e%2e/runs"),
        READ.replace("/runs", "/x%2F..%2Fruns"),
        READ.replace("/runs", "/runs;x"),
        f"{READ};x",
        f"{READ};/",
        f"{READ}%3Frun_id=1",
        f"{READ}%00",
        f"{READ}%0A",
        f"{READ}/",
        READ.replace("get", "%2567et"),
        f"{ARTIFACTS}/%2e%2e/mlflow/runs/get",
        f"{ARTIFACTS}/0/%2E%2E/x",
        f"{ARTIFACTS}/0/..%2Fx",
        f"{ARTIFACTS}/0//x",
        f"{ARTIFACTS}/0/%2Fx",
        "/../billing/api",
        READ.replace("/", "\\"),
    ],
)
def test_a_path_that_may_be_another_is_denied(service: Service, writer: Headers, path: str) -> None:
    """A path that a server could take for another one is not classified."""
    assert tuple(service.authorize(path, writer)) == (403, DENIED)


@pytest.mark.parametrize("name", ["mlflow%2F..%2Fbilling", "%6dlflow", "mlflow;x", "MLFLOW", "mlflow%00"])
def test_the_service_is_the_one_that_is_written(service: Service, writer: Headers, name: str) -> None:
    """A service with a different spelling is a different service."""
    assert tuple(service.authorize(READ, writer, of=name)) == (403, DENIED)


def test_a_decision_is_logged_without_a_secret(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """The log has each call, what was decided, and the proxy's request id to find it by; it has neither a key nor a query."""
    caplog.set_level(logging.INFO)
    created = service.create()
    caplog.clear()

    service.authorize(f"{READ}?run_id=1", {**bearer(created["key"]), "X-Request-Id": "permitted"})
    service.authorize(f"{READ}?api_key={created['key']}", {"X-API-Key": created["key"], "X-Request-Id": "refused"})

    permitted, refused = caplog.messages
    assert all(part in permitted for part in (f"GET /mlflow{READ} ", "200", created["key_id"], "permitted"))
    assert all(part in refused for part in (f"GET /mlflow{READ} ", "401", "UNAUTHENTICATED", "refused"))
    assert not any(part in caplog.text for part in (created["key"], "run_id", "api_key"))


# --- forward-auth: the same decision for a call that is described in headers


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"{READ}?run_id=1"),
        ("HEAD", READ),
        ("POST", WRITE),
        ("PUT", f"{ARTIFACTS}/0/a%2Fb"),
        ("GET", "/"),
        ("GET", ""),
        ("GET", "?page=1"),
    ],
)
def test_a_described_call_is_judged_by_its_path_within_the_service(
    service: Service, writer: Headers, method: str, path: str
) -> None:
    """The service's name at the start of the public path is stripped, and what is left is judged like any call."""
    answer = service.forward_auth(f"/mlflow{path}", writer, method)

    asked = service.authorize(path, writer, method)
    assert answer.status == asked.status
    assert answer.headers.get("x-auth-key-id") == asked.headers.get("x-auth-key-id")


def test_a_permitted_described_call_is_told_who_makes_it(service: Service) -> None:
    """The answer names the user and the key in headers, and has no body."""
    created = service.create(user_id="grace")

    answer = service.forward_auth(f"/mlflow{WRITE}", {"X-API-Key": created["key"]}, "POST")

    assert (answer.status, answer.text) == (200, "")
    assert (answer.headers["x-auth-user"], answer.headers["x-auth-key-id"]) == ("grace", created["key_id"])


def test_a_described_write_is_a_write(service: Service, reader: Headers, writer: Headers) -> None:
    """The method that counts is the described one, not the GET with which the proxy asks."""
    assert service.forward_auth(f"/mlflow{WRITE}", writer, "POST").status == 200

    assert tuple(service.forward_auth(f"/mlflow{WRITE}", reader, "POST")) == (403, DENIED)


def test_a_described_call_needs_a_key(service: Service, writer: Headers) -> None:
    """Without a key, with one in the described query, and with a key for another service, it is refused as everywhere."""
    assert service.forward_auth(f"/mlflow{READ}", writer).status == 200
    key = service.create(service_id="billing")["key"]

    assert tuple(service.forward_auth(f"/mlflow{READ}", {})) == (401, UNAUTHENTICATED)
    assert tuple(service.forward_auth(f"/mlflow{READ}?api_key=x", writer)) == (401, UNAUTHENTICATED)
    assert tuple(service.forward_auth(f"/mlflow{READ}", bearer(key))) == (403, DENIED)


@pytest.mark.parametrize(
    "path",
    [
        READ,
        f"/billing{READ}",
        f"/mlflow/mlflow{READ}",
        f"//mlflow{READ}",
        f"/MLFLOW{READ}",
        f"/%6dlflow{READ}",
        f"/mlflow%2F{READ[1:]}",
        f"/mlflow/..{READ}",
        f"/mlflow/{READ}",
        f"/mlflow{READ}#/create",
        f"http://mlflow.internal:5000/mlflow{READ}",
        f"/api/mlflow{READ}",
        "*",
        "",
    ],
)
def test_a_described_path_is_of_the_service_or_denied(service: Service, writer: Headers, path: str) -> None:
    """A path that does not start with the service's name, or that a server may take for another one, is denied."""
    assert tuple(service.forward_auth(path, writer)) == (403, DENIED)


@pytest.mark.parametrize("missing", ["X-Forwarded-Method", "X-Forwarded-Uri"])
def test_a_call_that_is_half_described_is_denied(service: Service, writer: Headers, missing: str) -> None:
    """Nothing replaces a missing header: neither the method nor the path of the proxy's own request."""
    headers = described("GET", f"/mlflow{READ}")
    del headers[missing]

    assert tuple(service.ask("GET", "/forward-auth/mlflow", {**writer, **headers})) == (403, DENIED)
    assert tuple(service.ask("GET", f"/forward-auth/mlflow?uri=/mlflow{READ}", {**writer, **headers})) == (403, DENIED)


@pytest.mark.parametrize("twice", [("X-Forwarded-Method", "GET"), ("X-Forwarded-Uri", f"/mlflow{READ}")], ids=lambda pair: pair[0])
def test_a_call_that_is_described_twice_is_denied(service: Service, reader: Headers, twice: tuple[str, str]) -> None:
    """If a proxy appends its headers to the client's, the client's are not trusted."""
    connection = HTTPConnection("127.0.0.1", service.port, timeout=TIMEOUT)
    connection.putrequest("GET", "/forward-auth/mlflow")
    for name, value in (twice, *described("GET", f"/mlflow{READ}").items(), *reader.items()):
        connection.putheader(name, value)
    connection.endheaders()
    with closing(connection):
        assert connection.getresponse().status == 403


def test_no_header_changes_what_a_proxy_asks_by_path(service: Service, reader: Headers) -> None:
    """A client's X-Forwarded headers have no effect on /authorize: the call's own method and path count."""
    posing = {**reader, **described("GET", f"/mlflow{READ}"), "X-HTTP-Method-Override": "GET"}

    assert tuple(service.authorize(WRITE, posing, "POST")) == (403, DENIED)
    assert service.authorize(READ, {**reader, **described("POST", f"/mlflow{WRITE}")}).status == 200


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_a_described_call_is_asked_about_with_get(service: Service, writer: Headers, method: str) -> None:
    """A proxy that asks with the call's own method should use /authorize."""
    answer = service.ask(method, "/forward-auth/mlflow", {**writer, **described("GET", f"/mlflow{READ}")})

    assert answer.status == 405


def test_a_described_call_is_logged_as_it_was_made(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """The log has the method and the path of the described call, and not its query."""
    caplog.set_level(logging.INFO)
    created = service.create()
    caplog.clear()

    service.forward_auth(f"/mlflow{WRITE}?run_id=1", bearer(created["key"]), "POST")

    assert f"POST /mlflow{WRITE} 200 {created['key_id']}" in caplog.text
    assert "run_id" not in caplog.text


# --- everything else


def test_health_needs_no_key(service: Service) -> None:
    """The health path says only whether the service is healthy."""
    assert tuple(service.ask("GET", "/health")) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    "path", ["/", "/api/v1", "/api/v1/keys/", "/authorize", "/authorize/", "/forward-auth/", "/docs", "/redoc", "/keys.sqlite"]
)
def test_there_is_nothing_else(service: Service, path: str) -> None:
    """Any other path is not found."""
    answer = service.ask("GET", path, bearer(ADMIN_TOKEN))

    assert (answer.status, answer.body["error_code"]) == (404, "ENDPOINT_NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("PUT", KEYS, {"GET", "POST"}), ("POST", "/health", {"GET"}), ("PATCH", f"{KEYS}/key_0", {"DELETE"})],
)
def test_another_method_is_refused(service: Service, method: str, path: str, allowed: set[str]) -> None:
    """A method that an endpoint does not have is refused with a list of its methods."""
    answer = service.ask(method, path, bearer(ADMIN_TOKEN))

    assert (answer.status, answer.body["error_code"]) == (405, "METHOD_NOT_ALLOWED")
    assert set(answer.headers["allow"].split(", ")) == allowed
