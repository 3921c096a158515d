"""The experiment with two runs that a diagnosis creates for itself, and removes."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.facts.facts import Facts
from mlflow_proxy_e2e.facts.question import Question, Reply
from mlflow_proxy_e2e.run import Run, state_folder
from mlflow_proxy_e2e.target import Identity, Route
from mlflow_proxy_e2e.wire import JSON, Headers, Request, Wire

API = "/api/2.0/mlflow"
LARGE = b"x" * (12 << 20)  # bytes: proxies limit bodies to 1 MB by default, and people often raise that to 10 MB
BIG = 1234567890123456789  # fits into 64 bits, but not into double precision


@dataclass(frozen=True)
class Sandbox:
    """The experiment to work on. ``failed`` is the last reply while creating it, which says why there is none."""

    failed: Reply
    name: str = ""
    experiment_id: str = ""
    artifact_location: str = ""
    run_ids: tuple[str, ...] = ()

    @property
    def is_there(self) -> bool:
        """Tell whether the experiment and its runs exist."""
        return bool(self.run_ids)

    @property
    def artifacts(self) -> str:
        """Return the path of the first run's artifacts."""
        return f"/api/2.0/mlflow-artifacts/artifacts/{self.experiment_id}/{self.run_ids[0]}/artifacts"

    def plain_file(self, by: object) -> Request:
        """Return the upload of a small, unremarkable artifact, with a name of its own for each ``by``."""
        return Request("PUT", f"{self.artifacts}/{by}-plain.txt", body=b"x")

    def large_file(self, by: object) -> Request:
        """Return the upload of an artifact larger than buffers and common limits, with a name of its own for each ``by``."""
        return Request("PUT", f"{self.artifacts}/{by}-large.bin", body=LARGE)


def sandbox(facts: Facts) -> Sandbox | None:
    """Return the sandbox, or None where nothing can be created. Raises NotAskedError."""
    if not facts.target.who_may("write"):
        facts.lack("needs a key that can write")
        return None
    if not facts.may_create:
        facts.lack("needs --write, as it creates something")
        return None
    own = facts.once(_created)
    if not own.is_there:
        facts.lack("the experiment that it needs could not be created")
    return own


def _created(facts: Facts) -> Sandbox:
    """Create an experiment with two runs, through MLflow itself if possible, and have it removed at the end.

    On a deployed target, the journal has it as well, so that a sweep can remove it if that fails.
    """
    route, who = (facts.direct, None) if facts.direct else (facts.target.routes[-1], facts.control)

    def ask(request: Request) -> Reply:
        return facts.reply(Question(route, request, who))

    run: Run | None = None

    def begin() -> str:
        nonlocal run
        run = Run.begin(None if facts.target.hops else state_folder(facts.target))
        names = run.new_names()
        run.note_creation("experiment", f"{names}-1")
        return names

    names = facts.observe("names", begin)
    if run:
        facts.at_end(run.end)
    created = ask(post("experiments/create", {"name": f"{names}-1"}))
    if not (experiment_id := _text(created.json(), "experiment_id")):
        return Sandbox(created)

    def remove() -> None:
        if run and _is_removed(route, who, experiment_id):
            run.note_removal(names)

    facts.at_end(remove)
    return _furnished(ask, f"{names}-1", experiment_id)


def _furnished(ask: Callable[[Request], Reply], name: str, experiment_id: str) -> Sandbox:
    found = ask(get(f"experiments/get?experiment_id={experiment_id}"))
    created = [ask(post("runs/create", {"experiment_id": experiment_id, "user_id": n})) for n in ("one", "two")]
    ids = tuple(_text(reply.json(), "run", "info", "run_id") for reply in created)
    logged = [ask(post("runs/log-metric", {"run_id": run_id, "key": "m", "value": 1, "timestamp": BIG})) for run_id in ids]
    replies = (found, *created, *logged)
    failed = next((reply for reply in replies if reply.status != http.client.OK), None)
    location = _text(found.json(), "experiment", "artifact_location")
    return Sandbox(failed or replies[-1], name, experiment_id, location, ids if all(ids) and not failed else ())


def _is_removed(route: Route, who: Identity | None, experiment_id: str) -> bool:
    with suppress(OSError, http.client.HTTPException), Wire(route, who, timeout=timeouts.PROBE) as wire:
        return wire.ask(post("experiments/delete", {"experiment_id": experiment_id})).status == http.client.OK
    return False


def post(path: str, content: Any, headers: Headers = ()) -> Request:
    """Return a call to MLflow's API with a JSON body."""
    return Request("POST", f"{API}/{path}", (*JSON, *headers), json.dumps(content).encode())


def padded(path: str, start: bytes, size: int) -> Request:
    """Return a call with a body of that many bytes: the JSON object that begins with ``start``, padded with white space."""
    return Request("POST", path, JSON, start.ljust(size - 1) + b"}")


padded_search = partial(padded, f"{API}/experiments/search", b'{"max_results": 1')
# Batches of parameters may have a megabyte, and nearly all models are larger: 1 MB is the default limit of nginx.
BODY_BYTES = tuple(1 << power for power in range(10, 22))


def get(path: str, headers: Headers = ()) -> Request:
    """Return a read from MLflow's API."""
    return Request("GET", f"{API}/{path}", headers)


NO_SUCH_RUN = f"{0:032x}"
UNKNOWN_RUN = get(f"runs/get?run_id={NO_SUCH_RUN}")
DEFAULT_EXPERIMENT = get("experiments/get?experiment_id=0")  # not changed by anything that is created in the meantime
GRAPHQL = Request("POST", "/graphql", JSON, b'{"query": "{ __typename }"}')
SPANS = Request("POST", "/v1/traces", JSON, b"{}")  # MLflow answers 422: there are none
HARMLESS_WRITE = post("runs/delete", {"run_id": NO_SUCH_RUN})  # MLflow answers 404: the run does not exist


def _text(said: Any, *path: str) -> str:
    for part in path:
        said = said.get(part) if isinstance(said, dict) else None
    return str(said) if said is not None else ""
