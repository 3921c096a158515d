"""The table of scopes, compared with the routes of the installed MLflow."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from mlflow_proxy_e2e.endpoints import table
from mlflow_proxy_e2e.endpoints.scopes import Scopes, decided_otherwise
from mlflow_proxy_e2e.target import Access, Identity, Policy, PolicyKind, Scope, Secret

RUNS = "/api/2.0/mlflow/runs"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"

TABLE = Scopes()


@pytest.fixture(scope="module")
def endpoints() -> set[tuple[str, str]]:
    """Return the endpoints of the installed MLflow: of its Flask application, and of the FastAPI application around it."""
    return set(table.endpoints())


def test_the_routes_of_mlflow_were_found(endpoints: set[tuple[str, str]]) -> None:
    """Both applications and the nested routers are found: the other tests would pass with an empty set, too."""
    found = {
        ("POST", "/api/2.0/mlflow/runs/create"),  # Flask
        ("GET", "/get-artifact"),  # Flask, outside any API
        ("POST", "/v1/traces"),  # a native router
        ("PATCH", "/ajax-api/3.0/jobs/cancel/*"),  # another, with a parameter
    }
    assert found <= endpoints


def test_every_endpoint_is_classified(endpoints: set[tuple[str, str]]) -> None:
    """The table has every endpoint of MLflow: a missing one would be denied to everybody."""
    assert sorted(endpoints - {(rule.method, rule.template) for rule in TABLE.rules}) == []


def test_every_rule_is_of_an_endpoint(endpoints: set[tuple[str, str]]) -> None:
    """No line of the table is stale or misspelt: it would permit calls that were never reviewed."""
    assert sorted({(rule.method, rule.template) for rule in TABLE.rules} - endpoints) == []


def test_no_endpoint_is_classified_twice() -> None:
    """There is one line for each endpoint, so that none can contradict another."""
    lines = Counter((rule.method, rule.template) for rule in TABLE.rules)

    assert [endpoint for endpoint, count in lines.items() if count > 1] == []


def test_overlapping_rules_do_not_take_each_others_calls() -> None:
    """A call gets the scope of its own endpoint, even if an earlier line's wildcard matches its path."""
    calls = {(r.method, r.template.replace("**", "a/b").replace("*", "a")): r.scope for r in TABLE.rules}

    assert {call: TABLE.required(*call) for call in calls} == calls


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", f"{RUNS}/search", "read"),
        ("POST", "/ajax-api/2.0/mlflow/experiments/search", "read"),
        ("POST", "/api/3.0/mlflow/traces/search", "read"),
        ("GET", "/ajax-api/2.0/mlflow/gateway-proxy", "write"),
        ("GET", "/ajax-api/3.0/mlflow/assistant/sessions/1/stream", "write"),
        ("GET", f"{RUNS}/get", "read"),
        ("POST", f"{RUNS}/create", "write"),
        ("DELETE", "/api/2.0/mlflow/registered-models/delete", "write"),
    ],
)
def test_what_a_call_does_decides(method: str, path: str, scope: Scope) -> None:
    """A search requires the read scope although it is a POST, and a GET with an effect requires the write scope."""
    assert TABLE.required(method, path) == scope


@pytest.mark.parametrize("path", [f"{RUNS}/get", "/health", f"{ARTIFACTS}/0/model.pkl"])
def test_head_asks_what_get_asks(path: str) -> None:
    """HEAD needs the scope of GET."""
    assert TABLE.required("HEAD", path) == TABLE.required("GET", path) == "read"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("OPTIONS", f"{RUNS}/get"),
        ("DELETE", f"{RUNS}/get"),
        ("get", f"{RUNS}/get"),
        ("GET", "/api/2.0/mlflow/runs/get/"),
        ("GET", "/api/2.0/mlflow/runs/get/more"),
        ("GET", "/API/2.0/mlflow/runs/get"),
        ("GET", "/api/2.0/mlflow/runs/get;x"),
        ("GET", "/api/2.0/mlflow/runs/get%0A"),
        ("GET", "/api/2.0/mlflow/runs/get?run_id=1"),
        ("GET", "/prefix/api/2.0/mlflow/runs/get"),
        ("GET", "api/2.0/mlflow/runs/get"),
        ("GET", "/api/2.0/mlflow/no-such-endpoint"),
        ("GET", ""),
    ],
)
def test_anything_else_is_not_classified(method: str, path: str) -> None:
    """A method or path that differs slightly from the table's is covered by no rule."""
    assert TABLE.required(method, path) == "denied"


@pytest.mark.parametrize(
    "name",
    [
        "model.pkl",
        "with%20space",
        "a%2Fb",
        "%C3%BC%E2%82%AC",
        "100%25",
        "semi;colon",
        "quest%3Fion",
        "...",
        ".hidden",
        "%FF",
    ],
)
def test_odd_names_of_artifacts_are_names(name: str) -> None:
    """An artifact's name may be anything that is the same path to the proxy and to MLflow."""
    assert TABLE.required("GET", f"{ARTIFACTS}/0/{name}") == "read"
    assert TABLE.required("PUT", f"{ARTIFACTS}/0/{name}") == "write"


@pytest.mark.parametrize(
    "rest",
    ["/..", "/../x", "/./x", "//x", "/x//", "/%2e%2e/x", "/%2E./x", "/%2e/x", "/..%2Fx", "/%2F/x", "/x%2F%2e%2e%2Fy", "%2F.."],
)
def test_a_path_that_may_be_two_is_not_classified(rest: str) -> None:
    """Empty segments and dot segments, escaped or not, mean different things to proxies and servers: no rule covers them."""
    assert TABLE.required("GET", f"{ARTIFACTS}/0{rest}") == "denied"


def test_a_path_is_decoded_once() -> None:
    """Doubly escaped characters are part of a name to MLflow, not a way out of its folder."""
    assert TABLE.required("GET", f"{ARTIFACTS}/0/%252e%252e/x") == "read"


def test_a_table_may_have_comments_and_blank_lines(tmp_path: Path) -> None:
    """Comments and blank lines are not rules, and a line for twins makes two."""
    table = Scopes(written(tmp_path, "# a comment\n\nread  GET  /{api}/x/*\n   \nwrite POST /y\n"))

    assert [(rule.scope, rule.method, rule.template) for rule in table.rules] == [
        ("read", "GET", "/api/x/*"),
        ("read", "GET", "/ajax-api/x/*"),
        ("write", "POST", "/y"),
    ]


@pytest.mark.parametrize(
    "line",
    ["reed GET /x", "admin GET /x", "READ GET /x", "GET /x", "read GET", "read GET /x /y", "read GET /x # why"],
)
def test_a_line_that_is_no_rule_is_an_error(tmp_path: Path, line: str) -> None:
    """An error in the table is not ignored: an endpoint would silently be denied or permitted."""
    with pytest.raises(ValueError):  # noqa: PT011 - the message is for the table's editor
        Scopes(written(tmp_path, f"read GET /fine\n{line}\n"))


def test_no_part_of_a_rule_is_a_pattern_but_its_wildcards(tmp_path: Path) -> None:
    """A dot in a path is a literal dot."""
    table = Scopes(written(tmp_path, "read GET /2.0/x\n"))

    assert table.required("GET", "/2.0/x") == "read"
    assert table.required("GET", "/2_0/x") == "denied"


def test_a_star_is_one_segment(tmp_path: Path) -> None:
    """``*`` matches exactly one segment, which is not empty, and ``**`` one or more."""
    table = Scopes(written(tmp_path, "read GET /one/*\nread GET /more/**\n"))

    covered = {path: table.required("GET", path) for path in ("/one/a", "/one/a/b", "/one/", "/more/a", "/more/a/b", "/more/")}
    assert covered == {
        "/one/a": "read",
        "/one/a/b": "denied",
        "/one/": "denied",
        "/more/a": "read",
        "/more/a/b": "read",
        "/more/": "denied",
    }


READER = Identity("reader", frozenset({"read"}), key=Secret("key-of-a-reader"))
WRITER = Identity("writer", frozenset({"read", "write"}), key=Secret("key-of-a-writer"))
REVOKED = Identity("revoked", refused="unauthenticated", key=Secret("key-of-nobody"))


@pytest.mark.parametrize(
    ("method", "path", "access"),
    [
        ("GET", f"{RUNS}/get", "read"),
        ("HEAD", f"{RUNS}/get", "read"),
        ("POST", f"{RUNS}/search", "write"),
        ("GET", "/ajax-api/2.0/mlflow/gateway-proxy", "read"),
        ("PATCH", "/api/2.0/mlflow/registered-models/update", "write"),
        ("POST", "/not/in/the/table", "write"),
    ],
)
def test_policy_by_method(method: str, path: str, access: Access) -> None:
    """A policy by method applies to every path."""
    assert Scopes(policy=Policy("method")).required(method, path) == access


@pytest.mark.parametrize("kind", ["endpoint", "method"])
def test_override_counts_before_everything_else(kind: PolicyKind) -> None:
    """An override decides the calls that match it, and no others, with either kind of policy. The first match counts."""
    decided: tuple[tuple[str, Access], ...] = (("POST /{api}/2.0/mlflow/runs/search", "denied"), (f"POST {RUNS}/*", "read"))
    scopes = Scopes(policy=Policy(kind, decided))

    calls = {path: scopes.required("POST", path) for path in (f"{RUNS}/search", f"{RUNS}/create", f"{RUNS}/a/b")}

    assert calls == {
        f"{RUNS}/search": "denied",
        f"{RUNS}/create": "read",
        f"{RUNS}/a/b": "denied" if kind == "endpoint" else "write",
    }
    assert scopes.required("POST", "/ajax-api/2.0/mlflow/runs/search") == "denied"


def test_who_may_make_a_call() -> None:
    """Every caller may call an open path, though a bad key may be refused there. No caller may call a denied one."""
    health, get, create, search = "/health", f"{RUNS}/get", f"{RUNS}/create", f"{RUNS}/search"
    scopes = Scopes(policy=Policy(overrides=(("GET /health", "open"), (f"POST {search}", "denied"))))

    def permitted(method: str, path: str) -> list[bool | None]:
        return [scopes.permit(who, method, path) for who in (None, REVOKED, READER, WRITER)]

    assert permitted("GET", health) == [True, None, True, True]
    assert permitted("GET", get) == [False, False, True, True]
    assert permitted("POST", create) == [False, False, False, True]
    assert permitted("POST", search) == [False, False, False, False]


def test_what_a_policy_decides_otherwise() -> None:
    """A call is decided differently only for callers for whom the outcome differs, and never if it matches no endpoint."""
    by_method = Policy("method")

    def otherwise(who: Identity | None, method: str, path: str) -> bool:
        return decided_otherwise(by_method, who, method, path)

    assert otherwise(READER, "POST", f"{RUNS}/search")
    assert not otherwise(WRITER, "POST", f"{RUNS}/search")
    assert not otherwise(None, "POST", f"{RUNS}/search")
    assert not otherwise(READER, "GET", f"{RUNS}/search")  # MLflow has no such endpoint
    assert not decided_otherwise(Policy(), READER, "POST", f"{RUNS}/search")


def written(folder: Path, text: str) -> Path:
    """Write a table."""
    table = folder / "scopes.txt"
    table.write_text(text)
    return table
