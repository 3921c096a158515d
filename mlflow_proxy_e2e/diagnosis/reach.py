"""Whether a call with a good key gets through at all, and if not, what stops it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from urllib.parse import urljoin, urlsplit

from mlflow_proxy_e2e.diagnosis.asking import Failure, Question, Reply
from mlflow_proxy_e2e.diagnosis.examination import EDGE_ROUTE, READ, Examination, Finding, together, works
from mlflow_proxy_e2e.diagnosis.now_and_then import now_and_then
from mlflow_proxy_e2e.diagnosis.outage import (
    behind_proxy,
    decision,
    fails_too,
    flags,
    gateway_error,
    mlflows_words,
    not_answered_by_mlflow,
    opinion,
    said,
)
from mlflow_proxy_e2e.diagnosis.traits import by_hop, by_mlflow
from mlflow_proxy_e2e.target import Identity, Route
from mlflow_proxy_e2e.wire import JSON, Request

NOWHERE = Request("GET", "/no-such-path-of-anybody")
SEARCH = Request("POST", READ.path.partition("?")[0], JSON, b'{"max_results": 1}')  # the same read without a query
# What a mount at an API path may have cut off: what is sent once more then makes the path whole again.
CUT_OFF = ("/api", "/api/2.0", "/api/2.0/mlflow")
SPLIT_TWIN = Request("GET", f"/ajax-api{READ.path.removeprefix('/api')}")
NOBODY = Identity("nobody", refused="unauthenticated")
CONNECTION: dict[Failure, str] = {
    "unresolved": "route-unresolved",
    "refused": "route-refused",
    "unreachable": "route-silent",
    "closed": "route-closed",
    "not-http": "route-not-http",
    "not-tls": "tls-missing",
    "no-tls": "tls-handshake",
    "certificate-early": "tls-early",
    "certificate-expired": "tls-expired",
    "certificate-name": "tls-hostname",
    "certificate-unknown": "tls-authority-unknown",
}


def reach(x: Examination) -> Iterator[Finding]:
    """Find out what stops good keys on each route, beginning with MLflow itself."""
    routes = x.target.routes
    everybody = [x.question(route, READ, carrier=carrier) for route in routes for carrier in x.target.carriers]
    nobody = [Question(route, READ) for route in routes]
    directly = [Question(x.target.direct, READ)] if x.target.direct else []
    x.asker.ask_all([*everybody, *nobody, *directly])
    x.do_without_direct_if_closed()
    broken = [route for route in routes if not all(works(reply) for reply in _good(x, route))]
    if not broken:
        return
    if (direct := x.ask_directly(READ)) and not works(direct):
        yield _mlflow_itself(x, direct)
        return
    refused = any(reply.status == x.target.contract.unauthenticated for route in broken for reply in _good(x, route))
    if refused and (kept := [reply for route in routes if (reply := _kept_refusal(x, route))]):
        because = "whoever asks for it first decides what all others are answered"
        yield Finding(("response-cached",), x.behind(reply.question.route for reply in kept), (*kept, because))
        return
    if mixed := now_and_then(x, (reply for route in broken for reply in _good(x, route) if not works(reply))):
        yield mixed
        return
    inner = [route for route in broken if route.name != EDGE_ROUTE]
    yield _stopped(x, (inner or broken)[0], x.behind(broken))


def _kept_refusal(x: Examination, route: Route) -> Reply | None:
    """Return the refusal of a good key, if it is refused what nobody has been refused before, and nothing else."""

    def refused(_: Route) -> Reply | None:
        refused_before, fresh = (READ.marked(uuid.uuid4().hex) for _ in range(2))
        x.asker.ask(Question(route, refused_before))
        reply = x.ask(route, refused_before)
        return reply if reply.status == x.target.contract.unauthenticated and works(x.ask(route, fresh)) else None

    return x.twice(refused, route)


def _good(x: Examination, route: Route) -> list[Reply]:
    return x.asker.ask_all(x.question(route, READ, carrier=carrier) for carrier in x.target.carriers)


def _mlflow_itself(x: Examination, direct: Reply) -> Finding:
    health = x.ask_hop("mlflow")
    evidence = tuple(reply for reply in (direct, health) if reply)
    if direct.failure in ("refused", "unreachable", "unanswered"):
        return Finding(("mlflow-down" if direct.failure == "refused" else "mlflow-silent",), ("mlflow",), evidence)
    if in_its_words := mlflows_words(direct):
        return in_its_words
    if direct.status == 404:
        return Finding(("static-prefix-mismatch",), ("mlflow",), evidence)
    if direct.status == 403:
        return Finding(("host-403",), ("mlflow",), evidence)
    return Finding((), ("mlflow",), evidence, "MLflow itself does not answer a read as it should")


def _stopped(x: Examination, route: Route, hops: tuple[str, ...]) -> Finding:
    replies = _good(x, route)
    if any(map(works, replies)):
        return _carrier(x, [reply for reply in replies if not works(reply)], hops)
    reply = replies[0]
    if reply.failure:
        return _no_answer(x, route, reply, hops)
    status, contract = reply.status or 0, x.target.contract
    if 300 <= status < 400:
        return _redirected(x, reply, hops)
    refusals = {contract.forbidden: _forbidden, contract.unauthenticated: _unauthenticated}
    by_status = {400: _bad_request, 401: _unauthenticated, 403: _forbidden, 404: _not_found, 508: _loop, **refusals}
    if status in by_status:
        return by_status[status](x, route, reply, hops)
    if status >= 500:
        return gateway_error(x, route, reply, hops)
    if status == 200:
        return _somebody_else(reply, hops)
    return _unknown(x, reply, hops)


def _somebody_else(reply: Reply, hops: tuple[str, ...]) -> Finding:
    """What is no answer of MLflow's: a page of anybody's, or of another service in its place."""
    if b"<html" not in reply.body.lower():
        return Finding((), hops, (reply,), "200 is answered, and not as by MLflow")
    return Finding(("sso-html-200", *by_hop(hops, ("address-taken-over",), ("rule-to-wrong-service",))), hops, (reply,))


def _bad_request(x: Examination, route: Route, reply: Reply, hops: tuple[str, ...]) -> Finding:
    without_query = x.ask(route, SEARCH)
    if works(without_query):
        return Finding(("query-dropped",), hops, (reply, without_query, *x.trail_of(reply)))
    return _unknown(x, reply, hops)


def _unknown(x: Examination, reply: Reply, hops: tuple[str, ...]) -> Finding:
    return Finding((), hops, (reply, *x.trail_of(reply)), "a good key does not get through")


def _carrier(x: Examination, stopped: list[Reply], hops: tuple[str, ...]) -> Finding:
    if stopped[0].status != x.target.contract.unauthenticated:
        return _unknown(x, stopped[0], hops)
    lost = "auth-stripped" if stopped[0].question.carrier == "bearer" else "carrier-ignored"
    return Finding((lost,), hops, (*stopped, "the same key is accepted when it is sent the other way"))


def _no_answer(x: Examination, route: Route, reply: Reply, hops: tuple[str, ...]) -> Finding:
    assert reply.failure
    nobody = x.asker.ask(Question(route, READ))
    if "UT" in flags(x, reply, "proxy"):
        return Finding(("timeout-too-short",), hops, (reply, *x.trail_of(reply)))
    if reply.failure == "certificate-unproved":
        # Whether an intermediate one is missing, or nobody knows the authority, only who knows the authority can tell.
        return Finding(("tls-chain", "tls-authority-unknown"), _first(hops), (reply,))
    if reply.failure not in ("unanswered", "closed"):
        return Finding((CONNECTION[reply.failure],), _first(hops), (reply,))
    if nobody.status:
        # A refusal comes, so the way to who refuses is open: what is silent stands behind.
        return _not_let_through(x, reply, nobody, hops)
    return _nobody_is_answered(x, route, reply, nobody, hops)


def _first(hops: tuple[str, ...]) -> tuple[str, ...]:
    """Return whose a route's first connection is, of those that may be at fault."""
    return hops[:1]


def _not_let_through(x: Examination, reply: Reply, nobody: Reply, hops: tuple[str, ...]) -> Finding:
    evidence = (reply, nobody, *x.trail_of(reply))
    if hops == ("edge",) or reply.failure == "closed":
        return Finding((), hops, evidence, "what is let in gets no answer")
    if (stranger := fails_too(x, reply)) is not None:
        return Finding(("auth-slow",), ("auth",), (*evidence, stranger))
    return not_answered_by_mlflow(x, evidence, hops)


def _nobody_is_answered(x: Examination, route: Route, reply: Reply, nobody: Reply, hops: tuple[str, ...]) -> Finding:
    if reply.failure == "closed":
        return Finding((CONNECTION["closed"],), hops, (reply, nobody))
    if hops == ("edge",):
        return Finding(
            ("edge-connect-timeout", "edge-upstream-silent"), hops, (reply, nobody, "the same call succeeds behind the edge")
        )
    health, auth = _hop_health(x, route), x.ask_hop("auth")
    evidence = (reply, nobody, *filter(None, (health, auth)))
    if auth and (auth.failure or auth.status != 200):
        return Finding(("auth-slow",), ("auth",), evidence)
    if health and health.status and auth:
        return Finding(("connect-timeout",), hops, evidence)
    return Finding((), (*hops, "auth"), evidence, "connections are taken, and nobody is answered, with a key or without")


def _hop_health(x: Examination, route: Route) -> Reply | None:
    """Ask the hop at which a route begins for its health, without a key."""
    return x.ask_hop("edge" if route.name == EDGE_ROUTE else "proxy")


def _redirected(x: Examination, reply: Reply, hops: tuple[str, ...]) -> Finding:
    """Say where a redirect leads. A key is sent to the host alone that it is for, and not in the clear, whatever an answer says."""
    url = urlsplit(urljoin(reply.question.route.url + reply.question.request.path, reply.header("Location") or ""))
    base = urlsplit(reply.question.route.url)
    if url.hostname != base.hostname or url.scheme not in (base.scheme, "https"):
        same_call = url.path.endswith(READ.path.partition("?")[0])
        return Finding(("redirect-drops-auth" if same_call else "sso-login",), hops, (reply,))
    there = Route(reply.question.route.name, f"{url.scheme}://{url.netloc}", reply.question.route.ca)
    followed = x.ask(there, Request("GET", f"{url.path}?{url.query}"))
    if not works(followed):
        return Finding(("sso-login",), hops, (reply, followed))
    return Finding(("redirect-post-to-get" if reply.status in (301, 302, 303) else "redirect-drops-auth",), hops, (reply, followed))


def _loop(x: Examination, route: Route, reply: Reply, hops: tuple[str, ...]) -> Finding:
    evidence = (reply, *x.trail_of(reply))
    if not said(x, reply, "proxy", "path"):
        return Finding(("proxy-loop", "loop-through-edge"), hops, evidence)
    by_edge = route.name != EDGE_ROUTE and said(x, reply, "edge", "path")
    return Finding(("loop-through-edge",) if by_edge else ("proxy-loop",), hops, evidence)


def _unauthenticated(x: Examination, route: Route, reply: Reply, hops: tuple[str, ...]) -> Finding:
    if hops == ("edge",):
        return _refused_by_edge(x, reply)
    if len(said(x, reply, "proxy", "path")) > 1:
        return Finding(("loop-unnoticed",), ("proxy",), (reply, *x.trail_of(reply)))
    health, thinks, decided = x.ask_hop("auth"), opinion(x), decision(x)
    evidence = tuple(filter(None, (reply, health, thinks, decided)))
    if health is None:
        return _refused_seen_from_outside(x, route, reply, hops)
    asked = x.trail.at("auth", reply.request_id) if x.trail else ()
    if health.status != 200 or not asked or (decided and decided.status not in (200, 401)):
        return Finding(
            ("outage-as-401",), ("auth",), (*evidence, f"the auth service has noted {len(asked)} questions about the call")
        )
    if thinks and thinks.status == 401:
        return Finding(("token-expiry",), ("auth",), evidence)
    return Finding((), ("auth",), (*evidence, *map(str, asked)), "the auth service turns down a key that it has issued")


def _refused_by_edge(x: Examination, reply: Reply) -> Finding:
    """The same key is accepted behind the edge: it loses the only header that is tried, or asks for something of its own."""
    evidence = (reply, "the same key is accepted behind the edge")
    if x.target.carriers == ("bearer",) and reply.error_code:
        return Finding(("auth-stripped",), ("edge",), evidence)
    return Finding((), ("edge",), evidence, "the edge turns down a key that is accepted behind it, however it is sent")


def _refused_seen_from_outside(x: Examination, route: Route, reply: Reply, hops: tuple[str, ...]) -> Finding:
    nobody = x.asker.ask(Question(route, READ))
    if _refusal(reply) != _refusal(nobody):
        where = together(*hops, *behind_proxy(x))
        return Finding((), where, (reply, nobody), "a good key is refused in other words than whoever shows none")
    if not _in_the_contracts_words(x, nobody):
        return Finding((), together("auth", *hops), (reply, nobody), "everybody is refused, and not in the contract's words")
    others = [other for other in x.target.who_may("read") if other != x.control]
    if accepted := next((again for who in others if works(again := x.ask(route, READ, who))), None):
        return Finding(("token-expiry",), ("auth",), (reply, accepted, f"other keys are accepted, and that of {x.control} is not"))
    lost = ["auth-stripped"] if "edge" in hops else []
    return Finding(("outage-as-401", "token-expiry", "loop-unnoticed", *lost), together("auth", *hops), (reply, nobody))


def _in_the_contracts_words(x: Examination, reply: Reply) -> bool:
    denial = x.target.contract.denial(NOBODY)
    asks_for_password = (reply.header("WWW-Authenticate") or "").lower().startswith("basic") and "basic" not in x.target.carriers
    lacks = (denial.error_code and not reply.error_code) or (denial.header and not reply.header(denial.header))
    return not (asks_for_password or lacks)


def _refusal(reply: Reply) -> object:
    return reply.status, reply.header("Content-Type"), reply.header("WWW-Authenticate"), reply.error_code


def _forbidden(x: Examination, route: Route, reply: Reply, hops: tuple[str, ...]) -> Finding:
    if b"host header" in reply.body.lower():
        return _foreign_host(x, reply, hops)
    thinks, nobody = opinion(x), x.asker.ask(Question(route, READ))
    evidence = (reply, nobody, *filter(None, [thinks]), *x.trail_of(reply))
    if thinks and thinks.status != 200:
        return Finding((), ("auth",), evidence, "the auth service turns down a key that it has issued")
    # Whoever knows keys apart says so in the contract's words, and asks for one first. Others forbid for reasons of their own.
    asks_for_keys = nobody.status == x.target.contract.unauthenticated != reply.status
    if asks_for_keys and reply.error_code and hops != ("edge",):
        if thinks:
            return Finding(("wrong-service-id",), ("auth",), evidence)
        return Finding(("wrong-service-id", "path-asked-wrongly"), together("auth", *hops), evidence)
    where = hops if hops == ("edge",) else together("auth", *hops)
    return Finding((), where, evidence, "a good key is forbidden a read, by somebody who does not say why")


def _foreign_host(x: Examination, reply: Reply, hops: tuple[str, ...]) -> Finding:
    """MLflow itself lets its own address in: if the proxy calls it by that, the proxy says another."""
    calls = said(x, reply, "proxy", "upstream")
    if hops == ("proxy",) and x.target.direct and urlsplit(x.target.direct.url).netloc in calls:
        return Finding(("wrong-host-sent",), hops, (reply, *x.trail_of(reply)))
    return Finding(("host-403", "wrong-host-sent"), ("mlflow", *hops), (reply,))


def _not_found(x: Examination, route: Route, reply: Reply, hops: tuple[str, ...]) -> Finding:
    nobody = x.asker.ask(Question(route, READ))
    if works(twin := x.ask(route, SPLIT_TWIN)):
        return Finding(("api-unrouted",), hops, (reply, twin))
    if by_mlflow(reply):
        return _wrong_path_at_mlflow(x, route, reply, nobody, hops)
    if hops == ("edge",):
        return _no_rule_behind_edge(x, route, reply)
    if said(x, reply, "proxy", "details") == ["via_upstream"]:
        return Finding(("address-taken-over",), hops, (reply, *x.trail_of(reply)))
    return Finding((), hops, (reply, *x.trail_of(reply)), "no rule covers the path")


def _wrong_path_at_mlflow(x: Examination, route: Route, reply: Reply, nobody: Reply, hops: tuple[str, ...]) -> Finding:
    if by_mlflow(nobody):
        causes = ("rule-straight-to-mlflow",) if "edge" in hops else ("key-check-off",)
        return Finding(causes, hops, (reply, nobody))
    whole = [x.ask(route, Request("GET", cut + READ.path)) for cut in CUT_OFF]
    if made_whole := next((again for again in whole if works(again)), None):
        return Finding(("strip-twice",), hops, (reply, made_whole))
    if seen := _path_at_mlflow(x, route):
        cause = "strip-twice" if len(seen) < len(READ.path.partition("?")[0]) else "strip-none"
        return Finding((cause,), hops, (reply, nobody, *x.trail_of(reply), f"MLflow was asked for {seen}"))
    undecided = ["strip-twice"] if any(again.status in x.refusals for again in whole) else []
    drift, behind = ([], []) if x.target.direct else (["static-prefix-mismatch"], ["mlflow"])
    return Finding(("strip-none", *undecided, *drift), (*hops, *behind), (reply, nobody, *whole))


def _path_at_mlflow(x: Examination, route: Route) -> str | None:
    """Return the path by which a read came to MLflow, as its own log has it."""
    if not x.trail:
        return None
    mark = uuid.uuid4().hex
    x.ask(route, READ.marked(mark))
    lines = (step.line for step in x.trail.steps(mark) if step.hop.startswith("mlflow"))
    return next((found[1] for line in lines if (found := re.search(r"GET ([^? ]+)", line))), None)


def _no_rule_behind_edge(x: Examination, route: Route, reply: Reply) -> Finding:
    base = urlsplit(route.url)
    at_edge = x.ask(Route(route.name, f"{base.scheme}://{base.netloc}", route.ca), NOWHERE)
    for inner in (each for each in x.target.routes if each.name != EDGE_ROUTE):
        inner_prefix = urlsplit(inner.url).path
        if works(again := x.ask(route, Request("GET", inner_prefix + READ.path))):
            return Finding(("edge-strip-twice",), ("edge",), (reply, again))
        at_proxy = x.ask(Route(inner.name, inner.url.removesuffix(inner_prefix)), Request("GET", base.path + READ.path))
        if _is_like(at_proxy, reply):
            undecided = ["tls-listener-ruleless"] if _is_like(at_edge, reply) and base.scheme == "https" else []
            return Finding(("edge-strip-none", *undecided), ("edge",), (reply, at_proxy, at_edge))
    passed_on = said(x, reply, "edge", "details") == ["via_upstream"] and not said(x, reply, "proxy", "path")
    if passed_on or not _is_like(at_edge, reply):
        return Finding(("rule-to-wrong-service",), ("edge",), (reply, at_edge, *x.trail_of(reply)))
    causes = ("tls-listener-ruleless",) if base.scheme == "https" else ()
    return Finding(causes, ("edge",), (reply, at_edge), "no rule of the edge covers the path")


def _is_like(one: Reply, other: Reply) -> bool:
    """Tell whether two answers are by the same hop: the same but for the path and the ids that may stand in them."""
    return _by(one) == _by(other)


def _by(reply: Reply) -> object:
    words = re.sub(rb"[^\s\"'<>]*[/\d][^\s\"'<>]*", b"", reply.body)
    return reply.status, reply.header("Content-Type"), words
