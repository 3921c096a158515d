"""Attempts to get past the gate, and what became of them.

Correct proxies differ in what they make of an odd request: one tidies it up and decides, another answers 400 or 404, redirects, or
closes the connection. What all of them have in common is asserted here: of somebody who may not, nothing reaches MLflow, nothing is
written, and nothing of what MLflow holds, no success and no way to another host is answered.
"""

from __future__ import annotations

import http.client
import itertools
import json
import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from urllib.parse import urljoin, urlsplit

from mlflow_proxy_e2e.access_log import AccessLog
from mlflow_proxy_e2e.checks.denials import wrong_in_denial
from mlflow_proxy_e2e.target import Caller, Denial, Identity, Route
from mlflow_proxy_e2e.timeouts import ATTEMPT
from mlflow_proxy_e2e.wire import JSON, Answer, Request, UnfinishedError, Wire, describe

READ = "/api/2.0/mlflow/experiments/get"
SEARCH = "/api/2.0/mlflow/runs/search"  # a read by POST, as near to the write as can be
WRITE = "/api/2.0/mlflow/runs/set-tag"

Came = Answer | OSError | http.client.HTTPException


@dataclass(frozen=True)
class Subject:
    """What is behind the gate: an experiment and a run of it, both with a word that nobody knows who may not read."""

    experiment_id: str
    run_id: str
    canary: str

    def read(self, path: str = READ) -> Request:
        """Return a request whose answer has the canary in it."""
        return Request("GET", f"{path}{'&' if '?' in path else '?'}experiment_id={self.experiment_id}")

    def write(self, mark: str, path: str = WRITE) -> Request:
        """Return a request that gives the run a tag named by the mark. Sent to SEARCH it is a read, and as good a one."""
        what = {"run_id": self.run_id, "key": mark, "value": "written", "experiment_ids": [self.experiment_id]}
        return Request("POST", path, JSON, json.dumps(what).encode())


@dataclass(frozen=True)
class Attempt:
    """A request that was sent, and what came of it.

    Args:
        shown: the request as people may see it, without a key in a place of its own.
        harmless: answers that give nothing away, though they are successes or lead elsewhere. None: any, but what MLflow holds to
            who shows no key.
        denial: the one refusal that is right, where HTTP leaves no choice.
        trace: what is in MLflow's log if it got past.
        after: what somebody's own read was answered next, on another connection.
    """

    mark: str
    wire: Wire
    shown: Request
    came: Came
    harmless: Collection[Answer] | None
    denial: Denial | None
    trace: str
    after: Came | None


@dataclass
class Gate:
    """What stands between a route and MLflow, as the subject shows it."""

    route: Route
    control: Identity
    witness: Caller
    log: AccessLog | None
    subject: Subject
    attempts: list[Attempt] = field(default_factory=list, repr=False)
    hidden: list[str] = field(default_factory=list, repr=False)  # parts of keys, which no message may show
    _word: str = field(default_factory=lambda: f"m{uuid.uuid4().hex}")
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def origin(self) -> Route:
        """Return the route's server without the route's path: requests to it have the whole path in them."""
        url = urlsplit(self.route.url)
        return replace(self.route, url=f"{url.scheme}://{url.netloc}")

    @property
    def base(self) -> str:
        """Return the route's path."""
        return urlsplit(self.route.url).path

    def new_mark(self) -> str:
        """Return a word that nothing else has in it. All marks of one gate begin alike."""
        return f"{self._word}-{next(self._numbers)}-"

    def told_everybody(self, request: Request) -> list[Answer]:
        """Return what, if anything, a request is answered without a key: to say that again gives nothing away.

        Of one whose path means nothing, that is what a server says to whatever it does not know, or under a name that it does not
        know: its start page, or that one is to go elsewhere.
        """
        came = ask(Wire(self.origin, timeout=ATTEMPT), request)
        return [came] if isinstance(came, Answer) else []

    def is_open(self, mark: str | None = None) -> Answer:
        """Return what the plain read answers to who may make it. A refusal counts after that."""
        request = self.subject.read().marked(mark or self.new_mark())
        came = ask(Wire(self.route, self.control, timeout=ATTEMPT), request)
        served = self._is_served(came)
        assert served, describe(Wire(self.route, self.control), request, came, "MLflow's answer, to who may read")
        assert isinstance(came, Answer)
        return came

    def reached(self) -> str:
        """Return what MLflow's log has of this gate's marks, where there is a log. Who may is let in first."""
        mark = self.new_mark()
        self.is_open(mark)
        if not self.log:
            return ""
        self.log.await_line_with(mark)  # then whatever reached MLflow before is in it, too
        return "\n".join(self.log.lines_with(self._word))

    def is_open_to_writes(self) -> None:
        """Assert that the plain write succeeds for who may make it, and shows."""
        mark = self.new_mark()
        request = self.subject.write(mark)
        came = ask(Wire(self.route, self.control, timeout=ATTEMPT), request)
        written = isinstance(came, Answer) and came.status == 200 and mark in self.tags()
        assert written, describe(Wire(self.route, self.control), request, came, "that it is written, for who may write")

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
        """Send a request on a connection of its own, in which the mark is what MLflow would log or store.

        Args:
            shown, harmless, denial: see Attempt.
            trace: what is in MLflow's log if the request got past (default: the mark).
            is_attack: on what others get, too: see what somebody's own read is answered next.
        """
        came = ask(wire, request)
        after = ask(Wire(self.route, self.control, timeout=ATTEMPT), self.subject.read()) if is_attack else None
        self.attempts.append(Attempt(mark, wire, shown or request, came, harmless, denial, trace or mark, after))

    def assert_shut(self) -> None:
        """Assert that none of the attempts got past the gate, and that it is still open to who may."""
        reached, written = self.reached(), self.tags()
        found = [
            describe(attempt.wire, attempt.shown, attempt.came, f"{expected(attempt)}, but {flaw}")
            for attempt in self.attempts
            for flaw in [self._flaw(attempt, written, reached)]
            if flaw
        ]
        assert self.attempts
        report([self._without_keys(text) for text in found], len(self.attempts))

    def tags(self) -> set[str]:
        """Return the names of the run's tags, as MLflow itself has them."""
        with Wire(*self.witness) as mlflow_itself:
            answer = mlflow_itself.ask(Request("GET", f"/api/2.0/mlflow/runs/get?run_id={self.subject.run_id}"))
        return {tag["key"] for tag in answer.json()["run"]["data"]["tags"]}

    def _flaw(self, attempt: Attempt, written: set[str], reached: str) -> str | None:
        if attempt.mark in written:
            return "it was written"
        if attempt.trace in reached:
            return "it reached MLflow"
        if attempt.after is not None and not self._is_served(attempt.after):
            return f"then somebody else's read was answered {attempt.after}"
        if not isinstance(attempt.came, Answer):
            if self.subject.canary in str(attempt.came):
                return "that is what MLflow holds"
            if isinstance(attempt.came, UnfinishedError) and attempt.came.status < 300 and attempt.harmless is not None:
                return "that is the beginning of a success"
            return None if attempt.denial is None else "there was no answer"
        return self._flaw_of_answer(attempt, attempt.came)

    def _is_served(self, came: Came) -> bool:
        return isinstance(came, Answer) and came.status == 200 and self.subject.canary.encode() in came.body

    def _without_keys(self, text: str) -> str:
        for part in sorted(self.hidden, key=len, reverse=True):
            text = text.replace(part, "[part of a key]")
        return text

    def _shows_a_key(self, attempt: Attempt, came: Answer) -> bool:
        keys = [identity.key.reveal() for identity in (self.control, attempt.wire.identity) if identity and identity.key]
        return any(key in str((came.headers, came.body)) for key in keys)

    def _flaw_of_answer(self, attempt: Attempt, came: Answer) -> str | None:
        if came.status == 101:
            return "the connection was handed over"
        if self._shows_a_key(attempt, came):
            return "that shows the key"
        may_see = attempt.harmless is None and attempt.wire.identity is not None
        if self.subject.canary in str((came.headers, came.body)) and not may_see:
            return "that is what MLflow holds"
        if attempt.harmless is None or any(is_alike(self.route, came, known) for known in attempt.harmless):
            return None
        if came.status < 300:
            return "that is a success"
        if leads_elsewhere(self.route, came):
            return "that leads to another host"
        return None if attempt.denial is None or not wrong_in_denial(came, attempt.denial) else "that is something else"


def ask(wire: Wire, request: Request) -> Came:
    """Return what comes of a request on a connection of its own: an answer, or what was there in its place."""
    with wire:
        try:
            return wire.ask(request)
        except (OSError, http.client.HTTPException) as nothing:
            return nothing


def expected(attempt: Attempt) -> str:
    """Say what should have come of an attempt."""
    if attempt.denial:
        return f"{attempt.denial.status} {attempt.denial.error_code} in MLflow's JSON shape"
    if attempt.harmless is None:
        return "any answer of MLflow's to the call that the line shows" if attempt.wire.identity else "nothing of what MLflow holds"
    return "a refusal"


def leads_elsewhere(route: Route, came: Answer) -> bool:
    """Tell whether an answer is a redirect to another host. A proxy knows its own port, and not that of the edge."""
    return 300 <= came.status < 400 and _leads_to(route, came) != urlsplit(route.url).hostname


def is_alike(route: Route, one: Answer, other: Answer) -> bool:
    """Tell whether two answers say the same: with a redirect, that is to which host, whatever the path that one asked for."""
    if 300 <= one.status < 400:
        return one.status == other.status and _leads_to(route, one) == _leads_to(route, other)
    return (one.status, one.body) == (other.status, other.body)


def _leads_to(route: Route, came: Answer) -> str | None:
    return urlsplit(urljoin(f"{route.url}/", came.header("Location") or "")).hostname


def report(found: list[str], tried: int) -> None:
    """Fail with all that was found, if there is anything."""
    if found:
        raise AssertionError("\n\n".join([f"{len(found)} of {tried} requests were not taken as they should be", *found]))
