"""Sends questions, each with an end: for no longer than all of them together may take, and so many at once."""

from __future__ import annotations

import http.client
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.errors import RequestLimitError
from mlflow_proxy_e2e.exchanges import REQUEST_ID
from mlflow_proxy_e2e.facts.question import NoAnswer, Question, Reply
from mlflow_proxy_e2e.traffic import TRAFFIC
from mlflow_proxy_e2e.wire import Answer, UnfinishedError, Wire

AT_ONCE = 12  # questions: a target under diagnosis may be a slow one

# Why a certificate does not hold, by OpenSSL's codes (openssl-verification-options).
CERTIFICATE: Mapping[int, NoAnswer] = {
    9: "certificate-early",
    10: "certificate-expired",
    18: "certificate-unknown",  # vouches for itself
    19: "certificate-unknown",  # a chain that ends with one that vouches for itself
    62: "certificate-name",
    64: "certificate-name",
}
# What OpenSSL calls answers that are no TLS at all.
NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL")


class NotAskedError(Exception):
    """A question has no reply: the time or the number of requests for all of them is used up, or a recording does not have it."""


class DecidedOtherwiseError(NotAskedError):
    """A question is not asked: the deployment's own policy decides about it, so that its reply would show nothing."""


class Prober:
    """Sends questions until its time is over. Safe to use from several threads."""

    def __init__(self, seconds: float = timeouts.DIAGNOSIS) -> None:
        self._end, self._kept = time.monotonic() + seconds, 0.0
        self._slots = threading.BoundedSemaphore(AT_ONCE)

    @property
    def seconds_left(self) -> float:
        """Return for how long anything can still be asked."""
        return max(0.0, self._end - self._kept - time.monotonic())

    @contextmanager
    def keeping(self, seconds: float) -> Iterator[None]:
        """Within the block, so much of the time is kept for what is asked after it."""
        self._kept = seconds
        try:
            yield
        finally:
            self._kept = 0.0

    def send(self, question: Question, request_id: str) -> Reply:
        """Return what comes of a question. Raises NotAskedError."""
        if not self._slots.acquire(timeout=self.seconds_left):
            raise NotAskedError(str(question))
        came: queue.SimpleQueue[Reply | RequestLimitError] = queue.SimpleQueue()
        began = time.monotonic()
        threading.Thread(
            target=self._work, args=(question, request_id, came), daemon=True
        ).start()  # nobody waits for one that hangs
        try:
            reply = came.get(timeout=max(0.001, self.seconds_left))
        except queue.Empty:
            waited = time.monotonic() - max(began, TRAFFIC.delayed_until)  # what had to wait for its turn was asked no earlier
            if waited < timeouts.PROBE:
                raise NotAskedError(str(question)) from None
            return Reply(question, request_id, "unanswered", waited)
        if isinstance(reply, RequestLimitError):
            raise NotAskedError(str(question)) from reply
        return reply

    def _work(self, question: Question, request_id: str, came: queue.SimpleQueue[Reply | RequestLimitError]) -> None:
        try:
            came.put(_reply(question, request_id))
        except RequestLimitError as error:
            came.put(error)
        finally:
            self._slots.release()


def _reply(question: Question, request_id: str) -> Reply:
    request = replace(question.request, headers=(*question.request.headers, (REQUEST_ID, request_id)))
    began = TRAFFIC.clock()
    came: Answer | NoAnswer
    with Wire(question.route, question.who, question.carrier, timeout=timeouts.PROBE) as wire:
        try:
            came = wire.ask(request)
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            came = _why_not(error, connected=wire.has_connected)
    return Reply(question, request_id, came, TRAFFIC.clock() - began)


def _why_not(error: Exception, *, connected: bool) -> NoAnswer:
    if isinstance(error, ssl.SSLCertVerificationError):
        return CERTIFICATE.get(error.verify_code, "certificate-unproved")
    if isinstance(error, ssl.SSLError):
        return "not-tls" if error.reason in NOT_TLS else "no-tls"
    kinds: tuple[tuple[type[Exception] | tuple[type[Exception], ...], NoAnswer], ...] = (
        ((socket.gaierror, UnicodeError), "unresolved"),
        (ConnectionRefusedError, "refused"),
        ((ConnectionError, http.client.RemoteDisconnected, http.client.IncompleteRead, UnfinishedError), "closed"),
        (http.client.HTTPException, "not-http"),
    )
    return next((kind for types, kind in kinds if isinstance(error, types)), "unanswered" if connected else "unreachable")
