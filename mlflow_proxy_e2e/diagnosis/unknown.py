"""At which hop something is wrong that nobody has a name for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from mlflow_proxy_e2e.diagnosis.asking import Reply
from mlflow_proxy_e2e.diagnosis.examination import EDGE_ROUTE, READ, Examination, Finding, together
from mlflow_proxy_e2e.diagnosis.ground import Ground, artifacts_of, get, ground, post
from mlflow_proxy_e2e.diagnosis.trail import Step
from mlflow_proxy_e2e.target import Identity
from mlflow_proxy_e2e.wire import JSON, Request, matters

# Calls of every kind that a read key may make.
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
    Request("POST", "/graphql", JSON, b'{"query": "{ __typename }"}'),
    replace(READ, headers=(("Accept", "text/html"), ("Accept-Language", "de"), ("Cookie", "a=b"))),
)
SHOWN = 3  # of the tests that have failed
# Headers that each hop has of its own, or that are counted from the second of the answer.
VARYING = ("date", "server", "connection", "keep-alive", "transfer-encoding", "content-length", "via", "x-request-id", "expires")


@dataclass(frozen=True)
class Failure:
    """A test that has failed: its name, its route if it has one, the ids of the requests that it sent last, and its subject."""

    test: str
    route: str | None
    request_ids: tuple[str, ...]
    about: str = ""


def differences(x: Examination) -> Iterator[Finding]:
    """Find out what is answered otherwise than by MLflow itself."""
    yield from _reads(x)
    yield from _writes(x)


def by_failures(x: Examination, failures: Sequence[Failure]) -> Finding:
    """Return where tests fail. Nothing else shows: what they have sent, and on which routes, is all there is."""
    routes = {failure.route for failure in failures}
    on_edge = routes == {EDGE_ROUTE} and len(x.target.routes) > 1
    somewhere = together(*x.behind(x.target.routes), "auth", "mlflow")
    hops = ("edge",) if on_edge else somewhere if x.trail is None else _last_word(x, failures)
    return Finding((), hops, (), "tests fail, and no question that was asked shows why")


def what_failed(x: Examination, failures: Sequence[Failure]) -> list[str]:
    """Return some of the tests that have failed, and the way through all hops of what one of them has sent last, as evidence."""
    return [*(f"failed: {failure.test}" for failure in failures[:SHOWN]), *map(str, _trail(x, failures))]


def _reads(x: Examination) -> Iterator[Finding]:
    """Hold answers on the routes against MLflow's own."""
    callers = list(dict.fromkeys((x.control, *x.target.who_may("read"))))
    x.asker.ask_all(x.question(x.routes[0], request, callers[0]) for request in READS)
    yield from _differing(x, READS, callers)


def _differing(x: Examination, reads: Iterable[Request], callers: Sequence[Identity]) -> Iterator[Finding]:
    if x.target.direct is None:
        return
    for request in reads:
        direct = x.ask_directly(request)
        for who in callers:
            if wrong := x.wrong(partial(x.difference, request, who, partial(_essence, _headers(direct)))):
                yield Finding(
                    (), _hops(x, wrong), (wrong[0], direct, *x.trail_of(wrong[0])), "a call is not answered as by MLflow itself"
                )


def _status(reply: Reply) -> object:
    return reply.status


def _essence(own: frozenset[tuple[str, str]], reply: Reply) -> object:
    """Return what has to be as in MLflow's own answer, whose headers these are: all are there, and no other that matters."""
    if isinstance(reply.came, str):
        return reply.came
    headers = _headers(reply)
    return reply.status, reply.body, own - headers, {header for header in headers - own if matters(*header)}


def _headers(reply: Reply | None) -> frozenset[tuple[str, str]]:
    came = reply.came.headers if reply and not isinstance(reply.came, str) else ()
    return frozenset((name.lower(), value) for name, value in came if name.lower() not in VARYING)


def _hops(x: Examination, wrong: Sequence[Reply]) -> tuple[str, ...]:
    """Return where a difference arises: with the auth service, if it was its decision."""
    refused = wrong[0].status in (x.target.contract.unauthenticated, x.target.contract.forbidden)
    decided = x.trail.at("auth", wrong[0].request_id) if x.trail and refused else ()
    if any(f" {wrong[0].status} " in step.line for step in decided):
        return ("auth",)
    hops = x.behind(reply.question.route for reply in wrong)
    return together("auth", *hops) if refused and not x.trail and hops != ("edge",) else hops


def _writes(x: Examination) -> Iterator[Finding]:
    """What MLflow itself fails to do, and what fails on the routes alone."""
    if x.target.direct is None or not x.target.who_may("write"):
        return
    with ground(x) as own:
        if not own.is_there:
            yield Finding((), ("mlflow",), (own.failed,), "MLflow does not create an experiment, or a run in it")
            return
        yield from _differing(x, _reads_of(own), [x.control])
        for request in _of(own):
            direct = x.ask_directly(request)
            if direct and (direct.status or 0) >= 500:
                yield Finding((), ("mlflow",), (direct,), "MLflow itself fails")
                return
            if wrong := x.wrong(partial(x.difference, request, None, _status)):
                evidence = (wrong[0], direct, *x.trail_of(wrong[0]))
                yield Finding((), _hops(x, wrong), evidence, "a call is not answered as by MLflow itself")
                return


def _reads_of(own: Ground) -> tuple[Request, ...]:
    return (
        get(f"runs/get?run_id={own.run_ids[0]}"),
        get(f"experiments/get?experiment_id={own.experiment_id}"),
        post("runs/search", {"experiment_ids": [own.experiment_id]}),
    )


def _of(own: Ground) -> tuple[Request, ...]:
    file = f"{artifacts_of(own)}/a.txt"
    return (
        post("experiments/create", {"name": own.name}),  # there is one: MLflow refuses
        Request("PUT", file, body=b"content"),
        Request("GET", file),
        Request("GET", f"/get-artifact?run_id={own.run_ids[0]}&path=a.txt"),
        post("runs/log-parameter", {"run_id": own.run_ids[0], "key": "p", "value": "v"}),
        post("runs/set-tag", {"run_id": own.run_ids[0], "key": "t", "value": "v"}),
        Request("PATCH", "/api/2.0/mlflow/registered-models/update", JSON, b'{"name": "no-such"}'),
        Request("DELETE", "/api/2.0/mlflow/registered-models/delete", JSON, b'{"name": "no-such"}'),
    )


def _last_word(x: Examination, failures: Sequence[Failure]) -> tuple[str, ...]:
    """Return who had the last word on the last request of a failed test: MLflow, if all hops passed its answer on."""
    for step in _trail(x, failures):
        details = str(step.said.get("details", ""))
        if step.hop == "proxy" and details:
            return (
                ("auth",) if details.startswith("ext_authz") else ("mlflow", "proxy") if details == "via_upstream" else ("proxy",)
            )
    return ("proxy", "mlflow")


def _trail(x: Examination, failures: Sequence[Failure]) -> tuple[Step, ...]:
    last = next((failure.request_ids[-1] for failure in failures if failure.request_ids), None)
    return x.trail.steps(last) if x.trail and last else ()
