"""The gate between a route and MLflow: what it protects, the attempts to get past it, and whether it held."""

from __future__ import annotations

import itertools
import json
import re
import uuid
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from mlflow_proxy_e2e.access_log import AccessLog
from mlflow_proxy_e2e.checks.attempts import Attempt, Evidence, ask, expected, flaw, is_served
from mlflow_proxy_e2e.checks.oracle import assert_none_wrong
from mlflow_proxy_e2e.target import Caller, Denial, Identity, Route
from mlflow_proxy_e2e.timeouts import ATTEMPT
from mlflow_proxy_e2e.wire import JSON, Answer, Request, Wire, describe

READ = "/api/2.0/mlflow/experiments/get"
SEARCH = "/api/2.0/mlflow/runs/search"  # a read with POST, as similar to the write as can be
WRITE = "/api/2.0/mlflow/runs/set-tag"


@dataclass(frozen=True)
class Subject:
    """What the gate protects: an experiment and one of its runs, which both contain a word that only readers can learn.

    ``truth`` is a caller that sees their actual state in MLflow, whatever the gate does to requests.
    """

    experiment_id: str
    run_id: str
    canary: str
    truth: Caller

    def read(self, path: str = READ) -> Request:
        """Return a request whose answer contains the canary."""
        return Request("GET", f"{path}{'&' if '?' in path else '?'}experiment_id={self.experiment_id}")

    def write(self, mark: str, path: str = WRITE) -> Request:
        """Return a request that gives the run a tag named by the mark. Sent to SEARCH, it is a valid read."""
        what = {"run_id": self.run_id, "key": mark, "value": "written", "experiment_ids": [self.experiment_id]}
        return Request("POST", path, JSON, json.dumps(what).encode())

    def tags(self) -> set[str]:
        """Return the names of the run's tags, as MLflow stores them."""
        with Wire(*self.truth) as truth_wire:
            answer = truth_wire.ask(Request("GET", f"/api/2.0/mlflow/runs/get?run_id={self.run_id}"))
        return {tag["key"] for tag in answer.json()["run"]["data"]["tags"]}


class Marks:
    """Unique words: if a request contains one, MLflow's log shows whether that request has reached it.

    Args:
        log: MLflow's log, or None if it cannot be read.
    """

    def __init__(self, log: AccessLog | None) -> None:
        self._log, self._beginning, self._numbers = log, f"m{uuid.uuid4().hex}", itertools.count()

    def new(self) -> str:
        """Return a word that has not been used."""
        return f"{self._beginning}-{next(self._numbers)}-"

    def within(self, text: str) -> list[str]:
        """Return the words that are in a text."""
        return re.findall(rf"{self._beginning}-\d+-", text)

    def logged(self, last: str) -> list[str]:
        """Return the lines of MLflow's log that contain any of the words, after waiting for the last word that was sent."""
        if not self._log:
            return []
        self._log.await_line_with(last)  # by then, it has everything that reached MLflow earlier
        return self._log.lines_with(self._beginning)


@dataclass
class Gate:
    """The gate between a route and MLflow, tested with the subject.

    Args:
        control: an identity that is allowed everything.
        hidden: parts of keys, which no message may contain.
    """

    route: Route
    control: Identity
    subject: Subject
    marks: Marks
    attempts: list[Attempt] = field(default_factory=list, repr=False)
    hidden: list[str] = field(default_factory=list, repr=False)

    @property
    def origin(self) -> Route:
        """Return the route's server without the route's path: requests to it have the full path."""
        url = urlsplit(self.route.url)
        return replace(self.route, url=f"{url.scheme}://{url.netloc}")

    @property
    def base(self) -> str:
        """Return the route's path."""
        return urlsplit(self.route.url).path

    def wire(self, identity: Identity | None = None) -> Wire:
        """Return a connection to the origin, with an identity's key or without one."""
        return Wire(self.origin, identity, timeout=ATTEMPT)

    def public_answers(self, request: Request) -> list[Answer]:
        """Return the answer to a request without a key, if any: repeating it gives nothing away.

        For a meaningless path, it is the server's answer to any unknown path or host name: its start page, or a
        redirect.
        """
        came = ask(self.wire(), request)
        return [came] if isinstance(came, Answer) else []

    def assert_open(self, mark: str | None = None) -> Answer:
        """Assert that the plain read succeeds for an identity allowed to read, and return its answer. Then refusals count."""
        wire, request = self._control_wire(), self.subject.read().marked(mark or self.marks.new())
        came = ask(wire, request)
        served = is_served(came, self.subject.canary)
        assert served, describe(wire, request, came, "MLflow's answer, since it is allowed to read")
        assert isinstance(came, Answer)
        return came

    def assert_open_to_writes(self) -> None:
        """Assert that the plain write succeeds for an identity that is allowed to write, and takes effect."""
        mark = self.marks.new()
        wire, request = self._control_wire(), self.subject.write(mark)
        came = ask(wire, request)
        written = isinstance(came, Answer) and came.status == 200 and mark in self.subject.tags()
        assert written, describe(wire, request, came, "that it is written, since it is allowed to write")

    def attempt(
        self,
        wire: Wire,
        request: Request,
        mark: str,
        *,
        shown: Request | None = None,
        harmless: Collection[Answer] | None = (),
        denial: Denial | None = None,
        trace: str = "",
        is_attack: bool = False,
    ) -> None:
        """Send a request on a new connection. The mark is what MLflow would log or store.

        Args:
            shown, harmless, denial: see Attempt.
            trace: what MLflow's log contains if the request got past the gate (default: the mark).
            is_attack: whether it may affect others: then another identity's own read is checked right after it.
        """
        came = ask(wire, request)
        after = ask(self._control_wire(), self.subject.read()) if is_attack else None
        self.attempts.append(Attempt(mark, wire, shown or request, came, harmless, denial, trace or mark, after))

    def assert_shut(self) -> None:
        """Assert that no attempt got past the gate, and that identities with access still get through."""
        assert self.attempts
        evidence = self._evidence()
        assert_none_wrong([self._judge(attempt, evidence) for attempt in self.attempts])

    def assert_no_server_failed(self) -> None:
        """Assert that no attempt was answered with a server error."""
        failed = (isinstance(attempt.came, Answer) and attempt.came.status >= 500 for attempt in self.attempts)
        wrong = zip(self.attempts, failed, strict=True)
        assert_none_wrong([self._told(attempt, "a refusal, not a server error") if bad else None for attempt, bad in wrong])

    def _control_wire(self) -> Wire:
        return Wire(self.route, self.control, timeout=ATTEMPT)

    def _evidence(self) -> Evidence:
        last = self.marks.new()
        self.assert_open(last)
        return Evidence(self.subject.canary, self.control, self.subject.tags(), self.marks.logged(last))

    def _judge(self, attempt: Attempt, evidence: Evidence) -> str | None:
        what = flaw(attempt, evidence)
        return None if what is None else self._told(attempt, f"{expected(attempt)}, but {what}")

    def _told(self, attempt: Attempt, expected: str) -> str:
        text = describe(attempt.wire, attempt.shown, attempt.came, expected)
        for part in sorted(self.hidden, key=len, reverse=True):
            text = text.replace(part, "[part of a key]")
        return text
