"""Sends questions: a limited number at once, and none beyond the time allowed for all of them."""

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

AT_ONCE = 12  # questions: the target may be a slow one

# Why a certificate is invalid, by OpenSSL's codes (openssl-verification-options).
CERTIFICATE: Mapping[int, NoAnswer] = {
    9: "certificate-early",
    10: "certificate-expired",
    18: "certificate-unknown",  # self-signed
    19: "certificate-unknown",  # a chain that ends with a self-signed certificate
    62: "certificate-name",
    64: "certificate-name",
}
# OpenSSL's names for answers that are not TLS.
NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL")


class NotAskedError(Exception):
    """A question has no reply: the time or number of requests for all of them is used up, or the recording lacks it."""


class DecidedOtherwiseError(NotAskedError):
    """A question is not asked: the deployment's own policy decides it differently, so that the reply would show nothing."""


class Prober:
    """Sends questions until the time is up. Safe to use from several threads."""

    def __init__(self, seconds: float) -> None:
        self._end, self._kept = time.monotonic() + seconds, 0.0
        self._slots = threading.BoundedSemaphore(AT_ONCE)

    @property
    def seconds_left(self) -> float:
        """Return the seconds left for questions."""
        return max(0.0, self._end - self._kept - time.monotonic())

    @contextmanager
    def keeping(self, seconds: float) -> Iterator[None]:
        """Within the block, keep that much of the time for what is asked after it."""
        self._kept = seconds
        try:
            yield
        finally:
            self._kept = 0.0

    def slow_down(self) -> None:
        """From now on, send one question at a time."""
        self._slots = threading.BoundedSemaphore(1)

    def send(self, question: Question, request_id: str) -> Reply:
        """Return the reply to a question. Raises NotAskedError."""
        slots = self._slots
        if not slots.acquire(timeout=self.seconds_left):
            raise NotAskedError(str(question))
        came: queue.SimpleQueue[Reply | RequestLimitError] = queue.SimpleQueue()
        began = time.monotonic()
        threading.Thread(
            target=self._work, args=(question, request_id, came, slots), daemon=True
        ).start()  # a thread that hangs is not waited for
        try:
            reply = came.get(timeout=max(0.001, self.seconds_left))
        except queue.Empty:
            waited = time.monotonic() - max(began, TRAFFIC.delayed_until)  # the time spent waiting for its turn does not count
            if waited < timeouts.PROBE:
                raise NotAskedError(str(question)) from None
            return Reply(question, request_id, "unanswered", waited)
        if isinstance(reply, RequestLimitError):
            raise NotAskedError(str(question)) from reply
        return reply

    @staticmethod
    def _work(
        question: Question, request_id: str, came: queue.SimpleQueue[Reply | RequestLimitError], slots: threading.Semaphore
    ) -> None:
        try:
            came.put(_reply(question, request_id))
        except RequestLimitError as error:
            came.put(error)
        finally:
            slots.release()


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
