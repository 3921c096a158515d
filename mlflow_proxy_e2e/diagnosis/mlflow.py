"""What is wrong with MLflow itself, asked without anybody in between, though it answers reads."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

from packaging.version import Version

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.diagnosis.asking import Reply
from mlflow_proxy_e2e.diagnosis.examination import READ, Examination, Finding
from mlflow_proxy_e2e.diagnosis.ground import Ground, artifacts_of, large_file
from mlflow_proxy_e2e.endpoints.served import NEEDED, as_served
from mlflow_proxy_e2e.version import NUMBER, VERSION, installed
from mlflow_proxy_e2e.wire import JSON, Request, Wire

SMALL = b"x"
TIMES = 6  # that something is read which several servers may not all have
OTLP = Request("POST", "/v1/traces", JSON, b"{}")


def cannot_write(created: Reply) -> Finding:
    """Say why MLflow does not create an experiment, or a run in it."""
    said = created.body.lower()
    if b"readonly" in said or b"read-only" in said:
        return Finding(("database-read-only",), ("mlflow",), (created,))
    if b"locked" in said or created.failure == "unanswered":
        return Finding(("database-locked",), ("mlflow",), (created,))
    return Finding((), ("mlflow",), (created,), "MLflow does not create an experiment")


def mlflow(x: Examination, ground: Ground) -> Iterator[Finding]:
    """Find out what MLflow does not do that it should."""
    if "artifacts" in x.target.capabilities:
        if waits := list(_is_kept_waiting(x, ground)):
            yield from waits
            return  # and so would we
        yield from _artifacts(x, ground)
    yield from _replicas(x, ground)
    if (spans := x.ask_directly(OTLP)) and spans.status == 404 and "otlp" in as_served(x.target).capabilities:
        yield Finding(("native-routes-missing",), ("mlflow",), (spans,))


def versions(x: Examination) -> Iterator[Finding]:
    """Find out whether MLflow is another one from call to call, or too old for whoever calls it here."""
    for route in x.target.routes:
        said = {reply.body: reply for reply in x.asker.several_times(x.question(route, VERSION), TIMES) if _number(reply)}
        if len(said) > 1:
            yield Finding(("replica-version-skew",), ("mlflow",), tuple(said.values()))
            return
    version = x.ask_directly(VERSION) or x.ask(x.routes[0], VERSION)
    if (number := _number(version)) and Version(number) < Version(installed()):
        promised = (name for name in NEEDED if name in as_served(x.target).capabilities)
        calls = (endpoint.call() for name in promised for endpoint in NEEDED[name])
        replies = (x.ask_directly(call) or x.ask(x.routes[0], call) for call in calls)
        if lacking := next((reply for reply in replies if b"The requested URL was not found on the server" in reply.body), None):
            yield Finding(("client-skew",), ("mlflow",), (version, lacking, f"MLflow's client here is of version {installed()}"))


def _number(reply: Reply) -> str | None:
    said = NUMBER.fullmatch(reply.body) if reply.status == 200 else None
    return said[0].decode() if said else None


def _artifacts(x: Examination, ground: Ground) -> Iterator[Finding]:
    file = f"{artifacts_of(ground)}/small.txt"
    small = x.ask_directly(Request("PUT", file, body=SMALL))
    if small and small.status == 503:
        yield Finding(("artifacts-disabled",), ("mlflow",), (small,))
        return
    location = ground.artifact_location
    if not location.startswith("mlflow-artifacts:"):
        yield Finding(("direct-store",), ("mlflow",), (f"an experiment's artifacts are at {location.partition(':')[0]}:…",))
        return
    if location.startswith("mlflow-artifacts://"):
        yield Finding(("artifact-host-fixed",), ("mlflow",), ("an experiment's artifacts are at a host that is named",))
    if small is None:
        return
    if small.status != 200:
        yield Finding(("artifact-store-missing",), ("mlflow",), (small,))
        return
    large = x.ask_directly(large_file(ground, x.target.direct)) if "large-bodies" in x.target.capabilities else None
    if large and (large.status or 0) >= 500:
        yield Finding(("disk-full",), ("mlflow",), (small, large))


def _replicas(x: Examination, ground: Ground) -> Iterator[Finding]:
    """What one server has, every server must have."""
    read = Request("GET", f"/api/2.0/mlflow/runs/get?run_id={ground.run_ids[0]}")
    for route in x.target.routes:
        replies = x.asker.several_times(x.question(route, read), TIMES)
        there, missing = [r for r in replies if r.status == 200], [r for r in replies if r.status == 404]
        if there and missing:
            yield Finding(("replica-split",), ("mlflow",), (there[0], missing[0]))
            return


def _is_kept_waiting(x: Examination, ground: Ground) -> Iterator[Finding]:
    """Find out whether MLflow answers nobody while somebody sends slowly."""
    route, usual = x.target.direct, x.ask_directly(READ)
    if route is None or usual is None or usual.seconds >= timeouts.KEPT_WAITING or x.asker.seconds_left < timeouts.KEPT_WAITING:
        return
    slow = Request("PUT", f"{artifacts_of(ground)}/slow.bin", body=SMALL * 100)
    with Wire(route) as theirs, Wire(route, timeout=timeouts.KEPT_WAITING) as ours:
        try:
            theirs.send(theirs.encode(slow)[:-50])
            ours.ask(READ)
        except TimeoutError:
            meanwhile = f"the same, while somebody else's upload was going on: no answer within {timeouts.KEPT_WAITING:g} s"
            yield Finding(("too-few-workers",), ("mlflow",), (usual, meanwhile))
        except (OSError, http.client.HTTPException):
            return  # other questions tell why
