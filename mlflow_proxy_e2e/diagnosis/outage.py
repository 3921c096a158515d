"""Errors that a hop makes since the one behind it does not answer: 5xx, and who is away."""

from __future__ import annotations

import re
import time
from urllib.parse import urlsplit

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.diagnosis.asking import Question, Reply
from mlflow_proxy_e2e.diagnosis.examination import READ, Examination, Finding, together
from mlflow_proxy_e2e.diagnosis.trail import Step
from mlflow_proxy_e2e.target import Route
from mlflow_proxy_e2e.wire import JSON, Request

POLL_SECONDS = 0.1
NO_FLAGS = "-"  # what an Envoy's log has where nothing went wrong on the way: the answer is its own, or that of the next hop
UNHEALTHY = ("health-behind-auth", "health-path-mismatch")  # why a target that is well may be held for unhealthy
# What all looks alike from outside: an error at once, for whoever is let in.
NO_WAY_TO_MLFLOW = ("port-refused", "stale-address", "dns-fail", "upstream-by-https", "upstream-by-http2")
NO_DECISION = ("auth-down", "auth-500", "auth-404", "auth-nonsense")  # likewise, for everybody
ABOUT_KEYS = re.compile(rb"\bkeys?\b|\bauth|credential|\btokens?\b", re.IGNORECASE)
HEALTH_CHECKERS = ("Envoy/HC", "ELB-HealthChecker", "kube-probe")  # as they name themselves in a hop's log


def gateway_error(x: Examination, route: Route, reply: Reply, hops: tuple[str, ...]) -> Finding:
    """Say why a good key got an error that MLflow itself does not give."""
    if hops == ("edge",):
        return _proxy_away(x, reply)
    nobody = x.asker.ask(Question(route, READ))
    if _is_about_keys(x, reply, nobody):
        return auth_away(x, reply, nobody, hops)
    if not flags(x, reply, "proxy") and fails_too(x, reply):
        return _keys_not_checked(x, reply, nobody)
    return _mlflow_away(x, reply, nobody, hops)


def fails_too(x: Examination, reply: Reply) -> Reply | None:
    """Return what becomes of the same call with a key that is none, if it fails in the same way: it should be refused.

    Who shows no key at all may be refused by whoever would have to ask about one.
    """
    if x.stranger is None:
        return None
    again = x.asker.ask(Question(reply.question.route, reply.question.request, x.stranger, reply.question.carrier))
    return again if (again.status, again.failure) == (reply.status, reply.failure) else None


def _keys_not_checked(x: Examination, reply: Reply, nobody: Reply) -> Finding:
    evidence = (reply, *filter(None, [fails_too(x, reply)]), nobody, *filter(None, [x.ask_hop("auth")]))
    if reply.seconds > timeouts.NO_TIME_OUT:
        return Finding(("auth-slow",), ("auth",), evidence)
    return Finding(("outage-as-500",) if reply.status == 500 else NO_DECISION, ("auth",), evidence)


def not_answered_by_mlflow(x: Examination, evidence: tuple[object, ...], hops: tuple[str, ...]) -> Finding:
    """Say what it may be that keeps what is let in from being answered for long, where no log tells."""
    behind = behind_proxy(x)
    silent = ["mlflow-silent"] if "mlflow" in behind else []
    at_edge = ["idle-timeout"] if "edge" in hops else []
    causes = ("connect-timeout", "upstream-silent", *silent, "proxy-loop", "loop-through-edge", *at_edge)
    return Finding(causes, together(*hops, *behind), evidence)


def mlflows_words(reply: Reply) -> Finding | None:
    """Return what MLflow itself says that is wrong with it, in an error that was passed on as it came."""
    said = reply.body.lower()
    if reply.status == 503 and b"artifacts-only" in said:
        return Finding(("artifacts-only",), ("mlflow",), (reply,))
    if (reply.status or 0) >= 500 and reply.error_code and b"database" in said:
        return Finding(("database-down",), ("mlflow",), (reply,))
    return None


def behind_proxy(x: Examination) -> tuple[str, ...]:
    """Return who may be at fault where something that is let in does not come back: MLflow, too, unless it is known to be well."""
    return ("proxy",) if x.target.direct else ("proxy", "mlflow")


def flags(x: Examination, reply: Reply, hop: str) -> str:
    """Return how an Envoy's log says that a request ended (its response flags), or nothing where there is no such log."""
    return ",".join(str(step.said.get("flags", "")) for step in (x.trail.at(hop, reply.request_id) if x.trail else ()))


def said(x: Examination, reply: Reply, hop: str, field: str) -> list[str]:
    """Return what a hop's log has in a field of the lines about a request."""
    return [str(step.said.get(field, "")) for step in (x.trail.at(hop, reply.request_id) if x.trail else ())]


def _proxy_away(x: Examination, reply: Reply) -> Finding:
    how, steps = flags(x, reply, "edge"), x.trail_of(reply)
    evidence = (reply, *filter(None, [x.ask_hop("proxy")]), *steps, "the same call succeeds behind the edge")
    slow = reply.seconds > timeouts.NO_TIME_OUT
    if "UH" in how:
        return _unhealthy(x, evidence)
    if "UF" in how:
        return Finding(("edge-connect-timeout",) if slow else ("edge-port-refused",), ("edge",), evidence)
    if how:
        return Finding(("edge-upstream-silent",) if slow else (), ("edge",), evidence, "the edge does not get the proxy's answer")
    if slow:
        return Finding(("edge-connect-timeout", "edge-upstream-silent", "idle-timeout"), ("edge",), evidence)
    return Finding(("edge-port-refused", "no-healthy-target", *UNHEALTHY), ("edge",), evidence)


def _unhealthy(x: Examination, evidence: tuple[object, ...]) -> Finding:
    """The edge holds the proxy for unhealthy: what its checks were answered stands in the proxy's log, if they came there."""
    checks = _health_checks(x)
    if not checks:
        return Finding(("no-healthy-target",), ("edge",), (*evidence, "no health check has come to the proxy"))
    refused = [check for check in checks if check.said.get("status") in (401, 403)]
    cause = UNHEALTHY[0] if refused else UNHEALTHY[1]
    return Finding((cause,), ("edge",), (*evidence, (refused or checks)[-1]))


def _health_checks(x: Examination) -> list[Step]:
    end = time.monotonic() + timeouts.HEALTH_CHECK
    while not (checks := x.trail.with_any_of(HEALTH_CHECKERS, "proxy") if x.trail else []) and time.monotonic() < end:
        time.sleep(POLL_SECONDS)
    return checks


def _is_about_keys(x: Examination, reply: Reply, nobody: Reply) -> bool:
    """Tell whether keys could not be checked: everybody gets the error, before MLflow has been asked."""
    if (how := flags(x, reply, "proxy")) not in ("", NO_FLAGS):
        return "UAEX" in how
    return nobody.status == reply.status


def decision(x: Examination) -> Reply | None:
    """Ask the auth service of a stack that we own about a read with the good key, as the proxy does."""
    if not x.target.keys:
        return None
    return x.ask_hop("auth", Request("GET", f"/authorize/{x.target.keys.service_id}{READ.path}"), x.control)


def opinion(x: Examination) -> Reply | None:
    """Ask the auth service about the good key by itself."""
    if not x.target.keys:
        return None
    body = f'{{"service_id": "{x.target.keys.service_id}", "client_ip": "127.0.0.1"}}'.encode()
    return x.ask_hop("auth", Request("POST", "/api/v1/keys/validate", JSON, body), x.control)


def auth_away(x: Examination, reply: Reply, nobody: Reply, hops: tuple[str, ...]) -> Finding:
    """Say why keys cannot be checked."""
    health, decided = x.ask_hop("auth"), decision(x)
    evidence = tuple(filter(None, (reply, nobody, health, decided)))
    if health is None or decided is None:
        return _no_decision_seen_from_outside(x, reply, nobody, hops)
    if reply.status == 500:
        return Finding(("outage-as-500",), ("auth",), evidence)
    if decided.failure == "unanswered" or decided.seconds > timeouts.NO_TIME_OUT or reply.seconds > timeouts.NO_TIME_OUT:
        return Finding(("auth-slow",), ("auth",), evidence)
    if health.failure == "refused":
        return Finding(("auth-down",), ("auth",), evidence)
    if (decided.status or 0) >= 500:
        return Finding(("auth-500",), ("auth",), evidence)
    if decided.status == 404:
        return Finding(("auth-404",), ("auth",), evidence)
    if not decided.header("X-Auth-Key-Id"):
        return Finding(("auth-nonsense",), ("auth",), evidence)
    asked = x.trail.at("auth", reply.request_id) if x.trail else ()
    return Finding(("auth-404",) if asked else ("auth-down",), ("auth",), (*evidence, *x.trail_of(reply)))


def _no_decision_seen_from_outside(x: Examination, reply: Reply, nobody: Reply, hops: tuple[str, ...]) -> Finding:
    """Everybody gets the same error. Whoever fails so on purpose, since keys cannot be checked, says so."""
    if reply.status == x.target.contract.auth_outage and ABOUT_KEYS.search(reply.body):
        return Finding(("auth-slow",) if reply.seconds > timeouts.NO_TIME_OUT else NO_DECISION, ("auth",), (reply, nobody))
    where = together(*hops, "auth", *behind_proxy(x))
    return Finding((), where, (reply, nobody), "everybody gets the same error, with a key or without")


def _mlflow_away(x: Examination, reply: Reply, nobody: Reply, hops: tuple[str, ...]) -> Finding:
    if in_its_words := mlflows_words(reply):
        return in_its_words
    how = flags(x, reply, "proxy")
    evidence = (reply, nobody, *x.trail_of(reply), *filter(None, [x.ask_directly(READ)]))
    slow = reply.seconds > timeouts.NO_TIME_OUT
    behind = behind_proxy(x)
    if "UF" in how and "TLS_error" in "".join(said(x, reply, "proxy", "details")):
        return Finding(("upstream-by-https",), ("proxy",), evidence)
    if "UF" in how:
        return Finding(("connect-timeout",) if slow else (_wrong_address(x, reply),), ("proxy",), evidence)
    if "UH" in how:
        return Finding(("dns-fail",), ("proxy",), evidence)
    if "UPE" in how or "UC" in how:
        return Finding(("upstream-by-http2", "upstream-by-https"), ("proxy",), evidence)
    if reply.status == 504 and not slow:
        return Finding(("timeout-too-short",), hops, evidence)
    if how and slow:
        return Finding(("upstream-silent",), ("proxy",), evidence)
    if slow:
        return not_answered_by_mlflow(x, evidence, hops)
    if reply.status in (502, 503):
        loops = [] if how else ["proxy-loop", "loop-through-edge"]  # which end when a hop has no more connections
        return Finding((*NO_WAY_TO_MLFLOW, *loops, *(["mlflow-down"] if "mlflow" in behind else [])), behind, evidence)
    return Finding((), behind, evidence, "a good key gets an error that MLflow itself does not give")


def _wrong_address(x: Examination, reply: Reply) -> str:
    """Tell a wrong port from a stale address by what the proxy's log says that it tried."""
    right = urlsplit(x.target.direct.url).hostname if x.target.direct else None
    tried = [upstream.rpartition(":")[0] for upstream in said(x, reply, "proxy", "upstream")]
    return "stale-address" if right and any(tried) and right not in tried else "port-refused"
