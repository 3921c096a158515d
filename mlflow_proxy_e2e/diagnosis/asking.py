"""Questions to a target, each with an end: what was sent, and what came of it."""

from __future__ import annotations

import http.client
import queue
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.errors import RequestLimitError
from mlflow_proxy_e2e.exchanges import REQUEST_ID
from mlflow_proxy_e2e.target import Carrier, Identity, Route
from mlflow_proxy_e2e.traffic import TRAFFIC
from mlflow_proxy_e2e.wire import Answer, Request, UnfinishedError, Wire

AT_ONCE = 12  # questions: a target under diagnosis may be a slow one
SHOWN_CHARACTERS = 90  # of an answer's body

Failure = Literal[
    "unresolved",
    "refused",
    "unreachable",
    "unanswered",
    "closed",
    "not-http",
    "certificate-early",
    "certificate-expired",
    "certificate-name",
    "certificate-unknown",
    "certificate-unproved",
    "not-tls",
    "no-tls",
]
# Why a certificate does not hold, by OpenSSL's codes (openssl-verification-options).
CERTIFICATE: Mapping[int, Failure] = {
    9: "certificate-early",
    10: "certificate-expired",
    18: "certificate-unknown",  # vouches for itself
    19: "certificate-unknown",  # a chain that ends with one that vouches for itself
    62: "certificate-name",
    64: "certificate-name",
}
# What OpenSSL calls answers that are no TLS at all.
NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL")


class NoTimeLeftError(Exception):
    """The time for all questions together is over, or their number: what was asked last has no answer, and nothing can be asked."""


@dataclass(frozen=True)
class Question:
    """A request of somebody on a route."""

    route: Route
    request: Request
    who: Identity | None = None
    carrier: Carrier | None = None

    def __str__(self) -> str:
        by = f"{self.who} ({self.carrier})" if self.who and self.who.key else "nobody"
        return f"{self.request.method} {self.request.path[:SHOWN_CHARACTERS]} on {self.route} as {by}"


@dataclass(frozen=True)
class Reply:
    """What came of a question: an answer, or the kind of failure. ``request_id`` is what the logs of all hops know it by."""

    question: Question
    request_id: str
    came: Answer | Failure
    seconds: float

    @property
    def status(self) -> int | None:
        """Return the answer's status, or None if none came."""
        return self.came.status if isinstance(self.came, Answer) else None

    @property
    def failure(self) -> Failure | None:
        """Return why no answer came, or None if one did."""
        return None if isinstance(self.came, Answer) else self.came

    @property
    def body(self) -> bytes:
        """Return the answer's body, which is empty if no answer came."""
        return self.came.body if isinstance(self.came, Answer) else b""

    def header(self, name: str) -> str | None:
        """Return the answer's first header of that name."""
        return self.came.header(name) if isinstance(self.came, Answer) else None

    def json(self) -> Any:
        """Return what the body says, or None if it is no JSON."""
        try:
            return self.came.json() if isinstance(self.came, Answer) else None
        except ValueError:
            return None

    @property
    def error_code(self) -> str | None:
        """Return the error code, if the body is an error in MLflow's shape."""
        said = self.json()
        return str(said["error_code"]) if isinstance(said, dict) and {"error_code", "message"} <= set(said) else None

    def __str__(self) -> str:
        came: str = self.came if not isinstance(self.came, Answer) else str(self.came.status)
        if isinstance(self.came, Answer):
            text = " ".join(self.body[: 4 * SHOWN_CHARACTERS].decode(errors="replace").split())
            kind = (self.header("Content-Type") or "no content type").partition(";")[0]
            location = f", Location {self.header('Location')}" if self.header("Location") else ""
            came += f" {kind}{location} {text[:SHOWN_CHARACTERS]!r}"
        return f"{self.question}: {came} after {self.seconds:.1f} s"


class Asker:
    """Asks several questions at once, each only once, until its time is over."""

    def __init__(self) -> None:
        self._end = time.monotonic() + timeouts.DIAGNOSIS
        self._replies: dict[Question, Reply] = {}

    def ask(self, question: Question) -> Reply:
        """Return what comes of a question, or came of it before. Raises NoTimeLeftError."""
        return self.ask_all([question])[0]

    def ask_all(self, questions: Iterable[Question]) -> list[Reply]:
        """Ask questions at once and return what comes of each. Raises NoTimeLeftError."""
        wanted = list(questions)
        new = {question: _request_id(question) for question in wanted if question not in self._replies}
        waiting: queue.SimpleQueue[tuple[Question, str]] = queue.SimpleQueue()
        for asked in new.items():
            waiting.put(asked)
        came: queue.SimpleQueue[Reply | RequestLimitError] = queue.SimpleQueue()
        for _ in range(min(AT_ONCE, len(new))):
            threading.Thread(target=_work, args=(waiting, came), daemon=True).start()  # nobody waits for those that hang
        began = time.monotonic()
        for _ in new:
            try:
                reply = came.get(timeout=self.seconds_left)
            except queue.Empty:
                break
            if isinstance(reply, RequestLimitError):
                raise NoTimeLeftError from reply
            self._replies[reply.question] = reply
        waited = time.monotonic() - max(began, TRAFFIC.delayed_until)  # what had to wait for its turn was asked no earlier
        for question in new.keys() - self._replies.keys():
            if waited < timeouts.PROBE:
                raise NoTimeLeftError
            self._replies[question] = Reply(question, new[question], "unanswered", waited)
        return [self._replies[question] for question in wanted]

    def again(self, question: Question) -> Reply:
        """Return what comes of a question that may have been asked before, whose first reply counts on. Raises NoTimeLeftError."""
        with self.afresh():
            return self.ask(question)

    @contextmanager
    def afresh(self) -> Iterator[None]:
        """Within the block, every question is asked anew."""
        before, self._replies = self._replies, {}
        try:
            yield
        finally:
            self._replies |= before

    def several_times(self, question: Question, times: int) -> list[Reply]:
        """Return what comes of a question, each time on a connection of its own. Raises NoTimeLeftError."""
        return [self.again(question) for _ in range(times)]

    @property
    def seconds_left(self) -> float:
        """Return for how long anything can still be asked."""
        return max(0.0, self._end - time.monotonic())


def _request_id(question: Question) -> str:
    return question.request.header(REQUEST_ID) or uuid.uuid4().hex


def _work(waiting: queue.SimpleQueue[tuple[Question, str]], came: queue.SimpleQueue[Reply | RequestLimitError]) -> None:
    while True:
        try:
            question, request_id = waiting.get_nowait()
        except queue.Empty:
            return
        try:
            came.put(_reply(question, request_id))
        except RequestLimitError as error:
            came.put(error)


def _reply(question: Question, request_id: str) -> Reply:
    request = replace(question.request, headers=(*question.request.headers, (REQUEST_ID, request_id)))
    began = TRAFFIC.clock()
    came: Answer | Failure
    with Wire(question.route, question.who, question.carrier, timeout=timeouts.PROBE) as wire:
        try:
            came = wire.ask(request)
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            came = _failure(error, connected=wire.has_connected)
    return Reply(question, request_id, came, TRAFFIC.clock() - began)


def _failure(error: Exception, *, connected: bool) -> Failure:
    if isinstance(error, ssl.SSLCertVerificationError):
        return CERTIFICATE.get(error.verify_code, "certificate-unproved")
    if isinstance(error, ssl.SSLError):
        return "not-tls" if error.reason in NOT_TLS else "no-tls"
    kinds: tuple[tuple[type[Exception] | tuple[type[Exception], ...], Failure], ...] = (
        ((socket.gaierror, UnicodeError), "unresolved"),
        (ConnectionRefusedError, "refused"),
        ((ConnectionError, http.client.RemoteDisconnected, http.client.IncompleteRead, UnfinishedError), "closed"),
        (http.client.HTTPException, "not-http"),
    )
    return next((kind for types, kind in kinds if isinstance(error, types)), "unanswered" if connected else "unreachable")
