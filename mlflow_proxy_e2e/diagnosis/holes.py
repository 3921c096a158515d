"""Whether somebody gets in by another way than with a key of their own that permits it."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from mlflow_proxy_e2e.diagnosis.asking import Question, Reply
from mlflow_proxy_e2e.diagnosis.examination import READ, Examination, Finding, works
from mlflow_proxy_e2e.target import Identity, Route, Secret
from mlflow_proxy_e2e.wire import JSON, Request

NOBODY = Identity("nobody")
PAGE = Request("GET", "/")
NO_SUCH_RUN = json.dumps({"run_id": uuid.uuid4().hex}).encode()
HARMLESS_WRITE = Request("POST", "/api/2.0/mlflow/runs/delete", JSON, NO_SUCH_RUN)  # MLflow answers 404: there is no such run


class Hole(NamedTuple):
    """A request that somebody without a key gets answered as somebody with a good one does, if there is a hole."""

    cause: str
    request: Request


def _spelled(before: str, after: str) -> Request:
    return replace(READ, path=READ.path.replace(before, after, 1))


def _with(name: str, value: str) -> Request:
    return replace(READ, headers=((name, value),))


HOLES = (
    Hole("other-verbs-unguarded", replace(READ, method="DELETE")),
    Hole("ajax-api-unguarded", _spelled("/api/", "/ajax-api/")),
    Hole("family-hole", Request("GET", "/version")),
    Hole("graphql-hole", Request("POST", "/graphql", JSON, b'{"query": "{ __typename }"}')),
    Hole("health-unguarded-anywhere", _spelled("?", "/health?")),
    Hole("health-unguarded-anywhere", _spelled("/api/", "/health/../api/")),
    *(Hole("path-differential", _spelled("/api/", spelling)) for spelling in ("//api/", "/%61pi/", "/./api/", "/api//")),
    *(
        Hole("hop-header-trusted", _with(name, "1"))
        for name in ("X-MLflow-Proxy-Hop", "X-Internal-Request", "X-Envoy-Internal", "X-Proxy-Authenticated")
    ),
    *(
        Hole("identity-header-trusted", _with(name, "admin"))
        for name in ("X-Auth-Key-Id", "X-Auth-User", "X_Auth_Key_Id", "X-Forwarded-User", "X-Remote-User", "Remote-User", "X-User")
    ),
)
# Headers by which a key that may read would write: the read that it may make is then answered as something else.
REWRITES = (
    *(("original-url-honoured", _with(name, HARMLESS_WRITE.path)) for name in ("X-Original-URL", "X-Rewrite-URL")),
    *(
        ("method-override-honoured", _with(name, "DELETE"))
        for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
    ),
)
# What MLflow says to a method that a path does not have.
NOT_ALLOWED = re.compile(rb'not allowed for the requested URL|"detail": ?"Method Not Allowed"')
# A GET that acts: it has MLflow call somebody else.
ACTING_READ = Request("GET", "/ajax-api/2.0/mlflow/gateway-proxy?gateway_path=api/2.0/endpoints")


def holes(x: Examination) -> Iterator[Finding]:
    """Find out by which ways somebody gets in."""
    x.asker.ask_all(Question(route, hole.request, NOBODY) for route in x.routes for hole in HOLES)
    yield from _finding(x, "head-unguarded", partial(_head_let_in, x))
    for hole in HOLES:
        yield from _finding(x, hole.cause, partial(_let_in, x, hole.request))
    if x.target.contract.preflight == "refused":
        yield from _finding(x, "options-for-all", partial(_answered, x, replace(READ, method="OPTIONS")))
    yield from _keys_of_a_kind(x)
    yield from _of_readers(x)
    yield from _finding(x, "forwarded-before-check", partial(_carried_out, x))


def _finding(x: Examination, cause: str, test: Callable[[Route], Reply | None], hop: str = "proxy") -> Iterator[Finding]:
    if wrong := [reply for route in x.routes if (reply := x.twice(test, route))]:  # another hop may close a hole on one of them
        yield Finding((cause,), x.behind((reply.question.route for reply in wrong), hop), (wrong[0], *x.trail_of(wrong[0])))


def _let_in(x: Examination, request: Request, route: Route) -> Reply | None:
    reply = x.asker.ask(Question(route, request, NOBODY))
    if reply.status is None or reply.status in x.refusals or 300 <= reply.status < 400 or reply.status >= 500:
        return None
    good, direct = x.ask(route, request), x.ask_directly(request)
    by_mlflow = _is_same(good, direct) if direct else good.status == 200
    return reply if by_mlflow and _is_same(reply, good) else None


def _head_let_in(x: Examination, route: Route) -> Reply | None:
    """HEAD of what MLflow has a page of, and answers with 200, unlike in its API: if GET needs a key."""
    get = x.asker.ask(Question(route, PAGE, NOBODY))
    return _let_in(x, replace(PAGE, method="HEAD"), route) if get.status in x.refusals else None


def _is_same(one: Reply, other: Reply) -> bool:
    """Tell whether two answers say the same: of errors, which anybody may make, only the same words do."""
    return one.status == other.status and ((one.status or 500) < 300 or one.body == other.body != b"")


def _answered(x: Examination, request: Request, route: Route) -> Reply | None:
    reply = x.asker.ask(Question(route, request, NOBODY))
    return reply if reply.status and reply.status < 300 else None


def _keys_of_a_kind(x: Examination) -> Iterator[Finding]:
    """Keys that are not quite the good one, and the good one where no key belongs."""
    if x.control.key is None:
        return
    key = x.control.key.reveal()
    variants = (
        ("key-prefix-match", "auth", Identity("a key cut off", key=Secret(key[:-4])), READ),
        ("key-prefix-match", "auth", Identity("a key made longer", key=Secret(f"{key}x")), READ),
        ("key-case-ignored", "auth", Identity("a key in other letters", key=Secret(key.swapcase())), READ),
        ("last-key-counts", "proxy", Identity("a bad key and then a good one", key=Secret(f"bad, Bearer {key}")), READ),
    )
    in_query = ("key-in-query-accepted", "proxy", NOBODY, replace(READ, path=f"{READ.path}&api_key={key}"))
    may_be_logged = "destructive" in x.target.capabilities
    for cause, hop, who, request in (*variants, *([in_query] if may_be_logged else [])):
        yield from _finding(x, cause, partial(_accepted, x, request, who), hop)


def _accepted(x: Examination, request: Request, who: Identity, route: Route) -> Reply | None:
    return reply if works(reply := x.ask(route, request, who)) else None


def _of_readers(x: Examination) -> Iterator[Finding]:
    reader = next((i for i in x.target.who_may("read") if not i.may("write")), None)
    if reader is None:
        return
    for cause, request in REWRITES:
        yield from _finding(x, cause, partial(_rewritten, x, request, reader))
    if x.ask(x.routes[0], HARMLESS_WRITE, reader).status == x.target.contract.forbidden:
        yield from _finding(x, "get-taken-for-read", partial(_acts, x, reader), "auth")


def _rewritten(x: Examination, request: Request, reader: Identity, route: Route) -> Reply | None:
    reply = x.ask(route, request, reader)
    # Who refuses such a header may call that a method that is not allowed: of that, MLflow's own words alone are proof.
    honoured = reply.status == 404 or (reply.status == 405 and NOT_ALLOWED.search(reply.body))
    return reply if honoured and works(x.asker.again(x.question(route, READ, reader))) else None


def _acts(x: Examination, reader: Identity, route: Route) -> Reply | None:
    reply, may, direct = x.ask(route, ACTING_READ, reader), x.ask(route, ACTING_READ), x.ask_directly(ACTING_READ)
    by_mlflow = direct is not None and may.status == direct.status and may.status != 404
    return reply if by_mlflow and (reply.status, reply.body) == (may.status, may.body) else None


def _carried_out(x: Examination, route: Route) -> Reply | None:
    """A call that was refused and yet stands in MLflow's own log."""
    if not x.trail:
        return None
    mark = uuid.uuid4().hex
    reply = x.asker.ask(Question(route, READ.marked(mark), NOBODY))
    x.ask(route, READ.marked(f"after-{mark}"))  # what MLflow has of the first is in its log before it has this one
    lines = [step.line for step in x.trail.steps(mark) if step.hop.startswith("mlflow") and "after-" not in step.line]
    return reply if lines and reply.status == x.target.contract.unauthenticated else None
