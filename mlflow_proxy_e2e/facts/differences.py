"""Calls that are answered differently than by MLflow itself, where no cause has a name for that: at which hop they differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

from mlflow_proxy_e2e.facts.facts import READ, Facts, together
from mlflow_proxy_e2e.facts.question import Reply
from mlflow_proxy_e2e.facts.sandbox import GRAPHQL, Sandbox, get, post, sandbox
from mlflow_proxy_e2e.facts.sign import NO, Reading, Shows, Sign
from mlflow_proxy_e2e.target import Identity
from mlflow_proxy_e2e.wire import JSON, Request, matters

# Calls of every kind that a read key is allowed to make.
READS = (
    READ,
    Request("HEAD", READ.path),
    Request("GET", "/"),
    Request("GET", "/version"),
    get("experiments/get?experiment_id=no-such"),
    get("registered-models/search?max_results=1"),
    get("runs/get?run_id=no-such"),
    post("runs/search", {"experiment_ids": []}),
    Request("GET", "/ajax-api/2.0/mlflow/experiments/search?max_results=1"),
    Request("GET", "/api/2.0/mlflow-artifacts/artifacts?path=no-such"),
    Request("GET", "/api/3.0/mlflow/server-info"),
    Request("POST", "/api/3.0/mlflow/traces/search", JSON, b"{}"),
    GRAPHQL,
    replace(READ, headers=(("Accept", "text/html"), ("Accept-Language", "de"), ("Cookie", "a=b"))),
)
# Headers that each hop sets itself, or that are relative to the time of the answer.
VARYING = (
    "date",
    "server",
    "connection",
    "keep-alive",
    "transfer-encoding",
    "content-length",
    "via",
    "vary",
    "x-request-id",
    "expires",
)


def _differing(facts: Facts, reads: Iterable[Request], callers: Sequence[Identity]) -> Reading:
    for request in reads:
        direct = facts.ask_directly(request)
        for who in callers:
            if any(facts.is_decided_otherwise(facts.question(route, request, who)) for route in facts.routes):
                continue
            if wrong := facts.wrong(partial(facts.difference, request, who, partial(_essence, _headers(direct)))):
                return _found(facts, wrong, direct)
    return NO


def _found(facts: Facts, wrong: Sequence[Reply], direct: Reply | None) -> Reading:
    routes = frozenset(str(reply.question.route) for reply in wrong)
    return Reading(Shows.YES, (wrong[0], direct, *facts.trace(wrong[0])), _hops(facts, wrong), routes)


def _status(reply: Reply) -> object:
    return reply.status


def _essence(own: frozenset[tuple[str, str]], reply: Reply) -> object:
    """Return the parts of an answer that must be as in MLflow's own, which has these headers."""
    if isinstance(reply.came, str):
        return reply.came
    headers = _headers(reply)
    return reply.status, reply.body, own - headers, {header for header in headers - own if matters(*header)}


def _headers(reply: Reply | None) -> frozenset[tuple[str, str]]:
    came = reply.came.headers if reply and not isinstance(reply.came, str) else ()
    return frozenset((name.lower(), value) for name, value in came if name.lower() not in VARYING)


def _hops(facts: Facts, wrong: Sequence[Reply]) -> tuple[str, ...]:
    """Return the hops where a difference may arise: the auth service, if it made the decision."""
    refused = wrong[0].status in (facts.target.contract.unauthenticated, facts.target.contract.forbidden)
    decided = facts.lines_at("auth", wrong[0].request_id) if refused else ()
    if any(f" {wrong[0].status} " in line.line for line in decided):
        return ("auth",)
    hops = facts.behind(reply.question.route for reply in wrong)
    return together("auth", *hops) if refused and not facts.has_logs and hops != ("edge",) else hops


def _reads(facts: Facts) -> Reading:
    """Compare the answers on the routes with MLflow's own."""
    if facts.direct is None or not facts.open_routes:
        return NO
    callers = list(dict.fromkeys((facts.control, *facts.target.who_may("read"))))
    questions = (facts.question(facts.open_routes[0], request, callers[0]) for request in READS)
    facts.replies(question for question in questions if not facts.is_decided_otherwise(question))
    return _differing(facts, READS, callers)


def _in_sandbox(read: Callable[[Facts, Sandbox], Reading]) -> Sign:
    def of_sandbox(facts: Facts) -> Reading:
        own = sandbox(facts) if facts.direct and facts.open_routes else None
        return read(facts, own) if own and own.is_there else NO

    return Sign(of_sandbox)


def _own_reads(facts: Facts, own: Sandbox) -> Reading:
    reads = (
        get(f"runs/get?run_id={own.run_ids[0]}"),
        get(f"experiments/get?experiment_id={own.experiment_id}"),
        post("runs/search", {"experiment_ids": [own.experiment_id]}),
    )
    return _differing(facts, reads, [facts.control])


def _mlflow_fails(facts: Facts, own: Sandbox) -> Reading:
    for request in _writes(own):
        direct = facts.ask_directly(request)
        if direct and (direct.status or 0) >= 500:
            return Reading(Shows.YES, (direct,), ("mlflow",))
    return NO


def _own_writes(facts: Facts, own: Sandbox) -> Reading:
    for request in _writes(own):
        direct = facts.ask_directly(request)
        if facts.is_decided_otherwise(facts.question(facts.routes[0], request)):
            continue
        if wrong := facts.wrong(partial(facts.difference, request, None, _status)):
            return _found(facts, wrong, direct)
    return NO


def _writes(own: Sandbox) -> tuple[Request, ...]:
    file = f"{own.artifacts}/a.txt"
    return (
        post("experiments/create", {"name": own.name}),  # it exists: MLflow refuses
        Request("PUT", file, body=b"content"),
        Request("GET", file),
        Request("GET", f"/get-artifact?run_id={own.run_ids[0]}&path=a.txt"),
        post("runs/log-parameter", {"run_id": own.run_ids[0], "key": "p", "value": "v"}),
        post("runs/set-tag", {"run_id": own.run_ids[0], "key": "t", "value": "v"}),
        Request("PATCH", "/api/2.0/mlflow/registered-models/update", JSON, b'{"name": "no-such"}'),
        Request("DELETE", "/api/2.0/mlflow/registered-models/delete", JSON, b'{"name": "no-such"}'),
    )


DIFFERS = "a call is answered differently than by MLflow itself"
UNNAMED = (
    (DIFFERS, Sign(_reads)),
    (DIFFERS, _in_sandbox(_own_reads)),
    ("MLflow itself fails", _in_sandbox(_mlflow_fails)),
    (DIFFERS, _in_sandbox(_own_writes)),
)
