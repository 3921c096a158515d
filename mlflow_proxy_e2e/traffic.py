"""Limits on what this process sends to a target, and on the size and time of answers."""

from __future__ import annotations

import http.client
import io
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import requests
from urllib3 import BaseHTTPResponse, HTTPConnectionPool, Timeout
from urllib3.connection import HTTPConnection
from urllib3.exceptions import TimeoutError as PoolTimeoutError

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.errors import RequestLimitError
from mlflow_proxy_e2e.exchanges import EXCHANGES
from mlflow_proxy_e2e.target import Target

SAVED = 0.1  # seconds: requests that were not sent within it may be sent later at once
BYTES = 64 << 20  # of an answer, both as it came and decompressed
LARGE_BYTES = 1 << 30  # the same, where large bodies are allowed
CALLS = 3  # consecutive calls without an answer: then further ones will not be answered either
PORTS = {"http": 80, "https": 443}


class EndlessAnswerError(OSError):
    """An answer is larger, or takes longer, than any correct one."""


class GivenUpError(OSError):
    """A request was not sent, since its route does not answer."""


class Traffic:
    """What this process may still send.

    ``given_up`` says, by a route's URL, why nothing more is sent there. ``answer`` is how many seconds to wait for a client's
    answer, and ``delayed_until`` when the last request that has to wait for its turn may be sent. ``before`` is called with the
    route, method, path and headers of each request that a client is about to send on a route.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._interval, self._free_at = 0.0, 0.0
        self._left: int | None = None
        self._limit: int | None = None
        self._counts = True
        self._gives_up = False
        self._unanswered: Counter[str] = Counter()  # consecutive calls, by the URL of a route
        self._waited = threading.local()
        self.delayed_until = 0.0
        self.given_up: dict[str, str] = {}
        self.answer: float = timeouts.ANSWER
        self.most_bytes = BYTES
        self.before: Callable[[str, str, str, Mapping[str, Any]], None] = lambda *_: None

    def limit(self, target: Target, processes: int, answer: float = timeouts.ANSWER) -> None:
        """Apply a target's limits to this process, one of so many: it gets its share.

        On the lab's own stack there is no limit on waiting: tests make its services fall silent, and come back.
        """
        self._gives_up = not target.hops
        self.answer = answer if self._gives_up else timeouts.ANSWER
        rate, total = target.limits.requests_per_second, target.limits.requests
        self._interval = processes / rate if rate else 0.0
        self._limit, self._left = total, max(1, total // processes) if total else None
        self.most_bytes = LARGE_BYTES if "large-bodies" in target.capabilities else BYTES

    @property
    def is_exhausted(self) -> bool:
        """Tell whether a request was not sent because it was one too many."""
        return self._left is not None and self._left < 0

    def admit(self, route: str = "") -> None:
        """Wait until a request may be sent on a route with this URL. Raises RequestLimitError, GivenUpError if none may."""
        if reason := self.given_up.get(route):
            raise GivenUpError(reason)
        with self._lock:
            if self._left is not None and self._counts:
                self._left -= 1 if self._left >= 0 else 0
                if self._left < 0:
                    raise self.exhaustion
            now = time.monotonic()
            turn = max(self._free_at, now - SAVED + self._interval)
            self._free_at = turn + self._interval
            if turn > now:
                self.delayed_until = turn
        if turn > now:
            time.sleep(turn - now)
            self._waited.seconds = time.monotonic() - now + getattr(self._waited, "seconds", 0.0)

    def clock(self) -> float:
        """Return the time of a clock that stops while this thread waits for its turn, which is not part of an answer's time."""
        return time.monotonic() - float(getattr(self._waited, "seconds", 0.0))

    @contextmanager
    def awaiting(self, route: str, seconds: float) -> Iterator[None]:
        """Within the block, a call on a route waits this long for an answer. After several without one, give up the route."""
        try:
            yield
        except Exception as error:
            if self._gives_up and route and seconds >= self.answer and _is_silence(error):
                self._unanswered[route] += 1
                if self._unanswered[route] >= CALLS:
                    reason = f"gave up on {route}: {CALLS} calls in a row had no answer within {self.answer:g} s"
                    self.given_up.setdefault(route, reason)
            raise
        self._unanswered[route] = 0

    def hope_again(self) -> None:
        """Allow requests again on all routes that were given up."""
        self.given_up.clear()
        self._unanswered.clear()

    def exhaust(self) -> None:
        """Allow no further request: another process of the run has found that there would be too many."""
        self._left = -1

    @property
    def exhaustion(self) -> RequestLimitError:
        """Return the message about a run that would send too much."""
        return RequestLimitError(
            f"The run would send more than the {self._limit} requests that its profile allows. Select fewer tests, or raise "
            "'requests' in [limits]."
        )

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Within the block, requests do not count towards the total: what was created must be removed."""
        before, self._counts = self._counts, False
        try:
            yield
        finally:
            self._counts = before


TRAFFIC = Traffic()  # of this process, as its connection pools are


class Incoming(io.RawIOBase):
    """What arrives on a connection: an answer may be neither too large nor too slow.

    Args:
        connection: its timeout is for a single read.
        seconds: for everything until ``begin`` is called again.
    """

    def __init__(self, connection: socket.socket, seconds: float = timeouts.WHOLE_ANSWER) -> None:
        self._connection, self._seconds = connection, seconds
        self._raw = connection.makefile("rb", buffering=0)
        self.begin()

    def begin(self) -> None:
        """Begin another answer."""
        self._end, self._bytes = time.monotonic() + self._seconds, 0

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what has arrived. Raises TimeoutError if nothing has, EndlessAnswerError if it is too much or takes too long."""
        patience, left = self._connection.gettimeout(), self._end - time.monotonic()
        try:
            if left <= 0:
                raise TimeoutError
            self._connection.settimeout(left if patience is None else min(patience, left))
            count = self._raw.readinto(buffer)
        except TimeoutError as error:
            if self._bytes and time.monotonic() >= self._end:
                raise EndlessAnswerError(f"an answer takes longer than {self._seconds:g} s") from error
            raise
        finally:
            self._connection.settimeout(patience)
        self._bytes += count or 0
        if self._bytes > TRAFFIC.most_bytes:
            raise EndlessAnswerError(f"an answer is larger than {TRAFFIC.most_bytes >> 20} MiB")
        return count

    def close(self) -> None:
        """Let go of the connection, which stays open."""
        self._raw.close()
        super().close()


class _Bounded:
    """A connection as ``http.client.HTTPResponse`` expects it, for an answer with limits."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(Incoming(self._connection))


class _BoundedAnswer(http.client.HTTPResponse):
    def __init__(self, connection: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(_Bounded(connection), *arguments, **options)  # type: ignore[arg-type]


@contextmanager
def controlled(target: Target, seen: set[tuple[str, str]]) -> Iterator[None]:
    """Within the block, everything sent with urllib3, as all clients do, keeps to the limits.

    Requests are signed and limited, and answers have limits. ``seen`` gets the method and path of calls that were answered
    successfully on a route.
    """
    open_url = HTTPConnectionPool.urlopen
    routes = {_with_port(route.url): route for route in (*target.routes, *([target.direct] if target.direct else []))}

    def noted(pool: Any, method: str, url: str, body: Any = None, headers: Any = None, *rest: Any, **options: Any) -> Any:
        # A retry comes through here again, with what is left of the time.
        whole = f"{pool.scheme}://{pool.host}:{pool.port}{url}" if url.startswith("/") else _with_port(url)
        base = max((base for base in routes if whole.startswith(f"{base}/")), key=len, default="")
        route = routes[base].url if base else ""
        headers = dict(pool.headers if headers is None else headers)
        if base:
            TRAFFIC.before(route, method, urlsplit(whole.removeprefix(base)).path, headers)
        TRAFFIC.admit(route)
        request_id = EXCHANGES.sign(headers)
        if TRAFFIC.answer < timeouts.ANSWER:
            options["timeout"] = Timeout(TRAFFIC.answer)
        try:
            with TRAFFIC.awaiting(route, TRAFFIC.answer):
                answer = open_url(pool, method, url, body, headers, *rest, **options)
        except Exception as error:
            EXCHANGES.note(request_id, method, whole, type(error).__name__)
            raise
        EXCHANGES.note(request_id, method, whole, answer.status)
        if base and routes[base] != target.direct and answer.status < requests.codes.bad_request:
            seen.add((method, urlsplit(whole.removeprefix(base)).path))
        return _unpacked_within_bounds(answer, request_id)

    with patch.object(HTTPConnectionPool, "urlopen", noted), patch.object(HTTPConnection, "response_class", _BoundedAnswer):
        yield


def _with_port(url: str) -> str:
    """Return a URL with an explicit port, as connections have it."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.hostname}:{parts.port or PORTS[parts.scheme]}").geturl()


def _is_silence(error: Exception) -> bool:
    why = getattr(error, "reason", error)  # urllib3's, once it stops retrying
    return isinstance(why, (TimeoutError, PoolTimeoutError))


def _unpacked_within_bounds(answer: BaseHTTPResponse, request_id: str) -> BaseHTTPResponse:
    """Limit an answer's size while it is decompressed: it may grow a thousandfold. The beginning of an error is recorded."""
    stream = answer.stream

    def bounded(*arguments: Any, **options: Any) -> Iterator[bytes]:
        size = 0
        for part in stream(*arguments, **options):
            if not size and answer.status >= requests.codes.bad_request:
                EXCHANGES.quote(request_id, part)
            size += len(part)
            if size > TRAFFIC.most_bytes:
                raise EndlessAnswerError(f"an answer is larger than {TRAFFIC.most_bytes >> 20} MiB when decompressed")
            yield part

    answer.stream = bounded  # type: ignore[method-assign]
    return answer
