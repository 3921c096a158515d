"""Whether everybody is let in who may, and how the others are turned away."""

from __future__ import annotations

import email.utils
import time
import uuid
from collections.abc import Iterator, Sequence
from functools import partial

import requests

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.diagnosis.asking import Question, Reply
from mlflow_proxy_e2e.diagnosis.examination import READ, Examination, Finding, together, works
from mlflow_proxy_e2e.diagnosis.ground import UNKNOWN_RUN
from mlflow_proxy_e2e.diagnosis.holes import HARMLESS_WRITE
from mlflow_proxy_e2e.diagnosis.now_and_then import WHAT, differs_when_repeated, where_now_and_then
from mlflow_proxy_e2e.diagnosis.outage import decision
from mlflow_proxy_e2e.keys import Keys
from mlflow_proxy_e2e.run import PREFIX
from mlflow_proxy_e2e.target import Identity, Route
from mlflow_proxy_e2e.wire import JSON, Request

SEARCHES = (  # reads, though they are sent with POST
    Request("POST", "/api/2.0/mlflow/experiments/search", JSON, b'{"max_results": 1}'),
    Request("POST", "/api/2.0/mlflow/runs/search", JSON, b'{"experiment_ids": [], "max_results": 1}'),
)
# What it means if a key is let in that is refused for such a reason.
LET_IN = {
    "revoked": "revocation-ignored",
    "expired": "expiry-ignored",
    "throttled": "rate-limit-not-enforced",
    "forbidden": "service-not-checked",
}


def gate(x: Examination) -> Iterator[Finding]:
    """Find out who is let in wrongly, or turned away wrongly."""
    denied = [identity for identity in x.target.identities if identity.refused]
    everybody = [*denied, *_readers(x)]
    x.asker.ask_all(x.question(x.routes[0], READ, who, carrier) for who in everybody for carrier in x.target.carriers)
    yield from _let_in(x, denied)
    yield from _clock(x)
    yield from _remembered_key(x)
    yield from _scopes(x)
    yield from _turned_away(x, denied)


def _readers(x: Examination) -> list[Identity]:
    return [identity for identity in x.target.who_may("read") if not identity.may("write")]


def _replies(x: Examination, route: Route, who: Identity) -> list[Reply]:
    return x.asker.ask_all(x.question(route, READ, who, carrier) for carrier in x.target.carriers)


def _let_in(x: Examination, denied: Sequence[Identity]) -> Iterator[Finding]:
    let_in = {who.name: wrong for who in denied if (wrong := x.wrong(partial(_first_let_in, x, who)))}
    if not let_in:
        return
    if {who.name for who in denied if who.refused == "unauthenticated"} <= let_in.keys():
        yield _open_gate(x, next(iter(let_in.values())), sorted(let_in))
        return
    for name, wrong in let_in.items():
        yield _wrongly_let_in(x, x.target.identity(name), wrong)


def _first_let_in(x: Examination, who: Identity, route: Route) -> Reply | None:
    return next(filter(works, _replies(x, route, who)), None)


def _open_gate(x: Examination, wrong: Sequence[Reply], let_in: Sequence[str]) -> Finding:
    hops = x.behind(reply.question.route for reply in wrong)
    fresh = x.asker.ask(Question(wrong[0].question.route, _new_read()))
    if fresh.status == x.target.contract.unauthenticated:
        return Finding(("response-cached",), hops, (wrong[0], fresh, "what nobody has asked for before is refused"))
    elsewhere = x.asker.ask(Question(wrong[0].question.route, _new_path()))
    if elsewhere.status == x.target.contract.unauthenticated:
        where = hops if hops == ("edge",) else together("proxy", "auth", *hops)
        return Finding((), where, (wrong[0], elsewhere), "some paths are open to everybody, and others are not")
    health, decided = x.ask_hop("auth"), decision(x)
    evidence = (wrong[0], f"let in: {', '.join(let_in)}", *filter(None, (health, decided)))
    if hops == ("edge",):
        return Finding(("rule-straight-to-mlflow",), hops, evidence)
    if health is None:
        past_proxy = ["rule-straight-to-mlflow"] if "edge" in hops else []
        return Finding(("key-check-off", "fail-open", *past_proxy), (*hops, "auth"), evidence)
    ill = health.status != 200 or (decided is not None and decided.status != 200)
    return Finding(("fail-open",), ("auth",), evidence) if ill else Finding(("key-check-off",), hops, evidence)


def _wrongly_let_in(x: Examination, who: Identity, wrong: Sequence[Reply]) -> Finding:
    hops = x.behind((reply.question.route for reply in wrong), "auth")
    cause = LET_IN.get(who.name if who.refused == "unauthenticated" else str(who.refused))
    asked = x.trail.at("auth", wrong[0].request_id) if x.trail else None
    evidence = (wrong[0], *map(str, asked or ()))
    if cause is None:
        return Finding((), together("auth", "proxy", *hops), evidence, f"{who} is let in, who is to be refused as {who.refused}")
    if cause == "expiry-ignored" and _skew(x) < -timeouts.SKEW:
        return Finding(("clock-behind",), hops, (*evidence, f"its clock is {-_skew(x):.0f} s behind"))
    if asked is None:
        causes = ("expiry-ignored", "clock-behind") if cause == "expiry-ignored" else (cause,)
        return Finding(causes, hops if hops == ("edge",) else together("proxy", *hops), evidence)
    if not asked:
        return Finding((), ("proxy",), (*evidence, "the auth service has not been asked"), "a decision is taken without asking")
    return Finding((cause,), hops, evidence)


def _remembered_key(x: Examination) -> Iterator[Finding]:
    """A key that is used, revoked and used again: who remembers what the auth service has said lets it in."""
    if not x.target.keys or not x.target.who_may("read"):
        return
    keys = Keys(x.target.keys)
    try:
        issued = keys.issue(f"{PREFIX}-diagnosis", ["read"])
        who = Identity("a key of its own", frozenset({"read"}), key=issued.secret)
        before = x.ask(x.routes[0], _new_read(), who)
        keys.revoke(issued.key_id)
    except requests.RequestException:
        return
    if works(before) and works(x.ask(x.routes[0], _new_read(), who)) and (after := _after_lag(x, who)):
        yield Finding(("revocation-lag",), ("auth",), (before, "then it was revoked", after))


def _after_lag(x: Examination, who: Identity) -> Reply | None:
    """Return the answer to a key that is let in for longer than the contract permits, if there is the time to find out."""
    permitted = x.target.contract.revocation_seconds
    if x.asker.seconds_left < permitted + timeouts.NO_TIME_OUT:
        return None
    time.sleep(permitted)
    return after if works(after := x.ask(x.routes[0], _new_read(), who)) else None


def _new_read() -> Request:
    """Return a read to which nobody can have an answer in store: it is the key that is in question."""
    return READ.marked(uuid.uuid4().hex)


def _new_path() -> Request:
    """Return a read of a path about which nobody can have decided before."""
    return Request("GET", f"/api/2.0/mlflow-artifacts/artifacts/{uuid.uuid4().hex}")


def _clock(x: Examination) -> Iterator[Finding]:
    if abs(skew := _skew(x)) > timeouts.SKEW:
        cause = "clock-ahead" if skew > 0 else "clock-behind"
        yield Finding((cause,), ("auth",), (x.ask_hop("auth"), f"its clock differs from this machine's by {skew:.0f} s"))


def _skew(x: Examination) -> float:
    """Return by how many seconds the auth service's clock is ahead of this machine's, as far as it tells the time."""
    health = x.ask_hop("auth")
    said = email.utils.parsedate_tz(health.header("Date") or "") if health else None
    return email.utils.mktime_tz(said) - time.time() if said else 0.0


def _scopes(x: Examination) -> Iterator[Finding]:
    for reader in _readers(x):
        if wrong := x.wrong(partial(_refused_read, x, reader)):
            yield Finding(("read-key-denied-read",), _decided_by(x, wrong), (wrong[0], *x.trail_of(wrong[0])))
        if wrong := x.wrong(partial(_let_write, x, reader)):
            yield Finding(("scope-not-checked",), _decided_by(x, wrong), (wrong[0], *x.trail_of(wrong[0])))


def _refused_read(x: Examination, reader: Identity, route: Route) -> Reply | None:
    """Return a refusal of what is a search, though it is sent with POST, if all that are so are refused."""
    replies = [x.ask(route, request, reader) for request in SEARCHES]
    may = all(x.ask(route, request).status == 200 for request in SEARCHES)
    return replies[0] if may and all(reply.status == x.target.contract.forbidden for reply in replies) else None


def _let_write(x: Examination, reader: Identity, route: Route) -> Reply | None:
    reply = x.ask(route, HARMLESS_WRITE, reader)
    return reply if reply.error_code == "RESOURCE_DOES_NOT_EXIST" else None


def _decided_by(x: Examination, wrong: Sequence[Reply]) -> tuple[str, ...]:
    """Return whose decision it was: the auth service's where its log can be read, otherwise nobody can tell."""
    hops = x.behind((reply.question.route for reply in wrong), "auth")
    return hops if hops == ("edge",) or x.trail else together("auth", "proxy", *hops)


def _turned_away(x: Examination, denied: Sequence[Identity]) -> Iterator[Finding]:
    """Whether the status, the shape and the headers of refusals are as the contract has them."""
    wrong: dict[str, list[Reply]] = {}
    shapes: dict[int | None, str] = {}
    for who in denied:
        for reply in _replies(x, x.routes[0], who):
            if kind := _wrong_in_refusal(x, who, reply):
                wrong.setdefault(kind, []).append(reply)
                shapes |= {reply.status: kind} if kind.startswith("shape") else {}
    for kind, replies in wrong.items():
        if kind.startswith("shape"):
            continue
        yield _refusal(x, kind, replies[0])
    mlflows = x.ask(x.routes[0], UNKNOWN_RUN)
    if shapes and mlflows.error_code:  # otherwise MLflow's own errors are in another shape, too, which is not about the gate
        everything = len(shapes) > 1
        by_kind = {"shape": "error-detail", "shape-html": "error-html"}
        kind = next(iter(shapes.values()))
        yield _refusal(x, by_kind[kind] if everything else "denial-in-other-shape", wrong[kind][0])


def _refusal(x: Examination, kind: str, reply: Reply) -> Finding:
    if kind == "other-status" and differs_when_repeated(x, reply):
        return Finding((), where_now_and_then(x, reply), (reply,), WHAT)
    other = [route for route in x.routes[1:] if _is_same(x.ask(route, READ, reply.question.who, reply.question.carrier), reply)]
    hops = x.behind((x.routes[0], *other), "auth" if kind == "ratelimit-as-401" else "proxy")
    expired = ("token-expiry",) if kind == "ratelimit-as-401" and not x.trail else ()  # which looks alike where no log tells
    causes = () if kind == "other-status" else (kind, *expired)
    return Finding(causes, hops, (reply, *x.trail_of(reply)), "a refusal has another status than the contract says")


def _is_same(one: Reply, other: Reply) -> bool:
    return one.status == other.status and one.header("Content-Type") == other.header("Content-Type")


def _wrong_in_refusal(x: Examination, who: Identity, reply: Reply) -> str | None:
    denial = x.target.contract.denial(who)
    if works(reply):
        return None
    if reply.status != denial.status:
        if reply.status and 300 <= reply.status < 400:
            return "login-redirect"
        return "ratelimit-as-401" if who.refused == "throttled" and reply.status == 401 else "other-status"
    if denial.error_code and reply.error_code is None:
        return "shape-html" if b"<html" in reply.body.lower() else "shape"
    if denial.header and not reply.header(denial.header):
        return "challenge-missing" if denial.header == "WWW-Authenticate" else "retry-after-missing"
    return None
