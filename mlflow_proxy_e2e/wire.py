"""HTTP/1.1 on the wire: requests that no client library would send, and answers before a library has normalized them."""

from __future__ import annotations

import functools
import http.client
import io
import json
import re
import select
import shlex
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, cast
from urllib.parse import urlsplit

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.exchanges import EXCHANGES, REQUEST_ID, USER_AGENT
from mlflow_proxy_e2e.target import Carrier, Identity, Route, header_of, key_headers
from mlflow_proxy_e2e.traffic import TRAFFIC, Incoming

Headers = tuple[tuple[str, str], ...]
JSON: Headers = (("Content-Type", "application/json"),)

# Response headers that change a client's behaviour. A proxy may add others, such as Via, but none of these.
HEADERS_THAT_MATTER = (
    *("cache-control", "content-disposition", "content-encoding", "content-range", "content-type", "etag", "last-modified"),
    *("location", "retry-after", "set-cookie", "www-authenticate"),
    *("access-control-allow-credentials", "access-control-allow-headers", "access-control-allow-methods"),
    *("access-control-allow-origin", "access-control-expose-headers"),
)

DESCRIBED = ("sent", "came", "expected", "wrong", "again")  # the parts of a message, by the first word of their line
SHOWN_OF_PART = 120  # characters of a part that are compared
# What may differ between messages of one kind: ids, quoted text, and numbers, except the status at the beginning of a part.
VARYING = re.compile(r"[0-9a-f]{8,}|(?!\A)(?<!\d)\d+|'[^']*'|\"[^\"]*\"")

FORBIDS_STORING = {"no-store", "no-cache", "private", "max-age=0", "must-revalidate"}


def matters(name: str, value: str) -> bool:
    """Tell whether clients act on a header that a hop has added. Cookies and directives not to store are harmless."""
    if name == "cache-control":
        return not {part.strip().lower() for part in value.split(",")} <= FORBIDS_STORING
    return name in HEADERS_THAT_MATTER and name != "set-cookie"


SENDS_NO_LENGTH = ("GET", "HEAD", "OPTIONS", "DELETE", "TRACE")  # when there is no body


@dataclass(frozen=True)
class Request:
    """A request as it is sent: ``path`` within MLflow, headers and body exactly as written here.

    ``Host`` and ``Content-Length`` are added, unless a header of that name, or ``Transfer-Encoding``, is given.
    """

    method: str
    path: str
    headers: Headers = ()
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """Return the first header of that name."""
        return _first(self.headers, name)

    def marked(self, mark: str) -> Request:
        """Return the request with a word in its query that can be found in MLflow's access log."""
        path, question_mark, query = self.path.partition("?")
        return replace(self, path=f"{path}?{query}{'&' if question_mark and query else ''}mark={mark}")

    def encode(self, base: str, authority: str) -> bytes:
        """Return the bytes to send, for a base path and the authority in ``Host``."""
        added = [] if self.header("Host") is not None else [("Host", authority)]
        framed = self.header("Content-Length") is not None or self.header("Transfer-Encoding") is not None
        if not framed and (self.body or self.method not in SENDS_NO_LENGTH):
            added.append(("Content-Length", str(len(self.body))))
        lines = [f"{self.method} {base}{self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in (*added, *self.headers))]
        return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1") + self.body


@dataclass(frozen=True)
class Answer:
    """An answer as it came, without its transfer coding."""

    status: int
    headers: Headers
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the first header of that name."""
        return _first(self.headers, name)

    def json(self) -> Any:
        """Return the body as JSON. Raises ValueError if it is not JSON."""
        try:
            return json.loads(self.body)
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error

    def __str__(self) -> str:
        start = self.body[:SHOWN_BYTES].decode(errors="replace")
        return f"{self.status} {self.header('Content-Type') or '(no content type)'} {start!r}"


def _first(headers: Headers, name: str) -> str | None:
    return next((value for key, value in headers if key.lower() == name.lower()), None)


SHOWN_BYTES = 300  # of an answer's body, in a message
INTERIM = (b"HTTP/1.1 1", b"HTTP/1.0 1")  # answers before the final one
PIECE_BYTES = 16 << 10  # sent without checking whether there is an answer: a connection accepts so much at once, or nothing


class UnfinishedError(OSError):
    """An answer began and did not end. ``status`` is its status."""

    def __init__(self, status: int, reason: Exception) -> None:
        super().__init__(f"an answer of status {status} did not end: {type(reason).__name__}")
        self.status = status


def _body(response: http.client.HTTPResponse, method: str) -> bytes:
    if method == "CONNECT" and response.status < 300:
        return b""  # what follows belongs to the tunnel
    try:
        return response.read()
    except (OSError, http.client.HTTPException) as reason:
        raise UnfinishedError(response.status, reason) from reason


class Wire:
    """A connection of one identity on one route. It is opened when first needed, and again after it has been closed.

    Not safe to use from several threads at once. Raises OSError if the other side does not answer, and
    http.client.HTTPException if its answer is not HTTP.
    """

    def __init__(
        self,
        route: Route,
        identity: Identity | None = None,
        carrier: Carrier | None = None,
        *,
        timeout: float = timeouts.ANSWER,
        whole: float = timeouts.WHOLE_ANSWER,
    ) -> None:
        self.route, self.identity, self.timeout, self._whole = route, identity, timeout, whole
        self.carrier: Carrier = carrier or (identity.carrier if identity else "bearer")
        url = urlsplit(route.url)
        self.authority, self.base = url.netloc, url.path
        self._host, self._port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
        self._tls = url.scheme == "https"
        self._socket: socket.socket | None = None
        self._reader: _Reader | None = None
        self._used = 0.0
        self.has_connected = False  # whether a connection was ever accepted
        self._is_cut = False  # whether the last request was cut short by an early answer

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def ask(self, request: Request) -> Answer:
        """Send a request with the identity's key, and return the final answer.

        A server may close an idle connection at this very moment: then, as every client does, it is sent again on a new one.
        """
        data, request_id = self.signed(request)
        url = self.route.url + request.path
        try:
            with TRAFFIC.awaiting(self.route.url, self.timeout):
                answer = self._exchange(data, request.method)
        except (OSError, http.client.HTTPException) as error:
            EXCHANGES.note(request_id, request.method, url, type(error).__name__)
            raise
        EXCHANGES.note(request_id, request.method, url, answer.status)
        if answer.status >= http.client.BAD_REQUEST:
            EXCHANGES.quote(request_id, answer.body)
        return answer

    def _exchange(self, data: bytes, method: str) -> Answer:
        if time.monotonic() - self._used > timeouts.IDLE:
            self.close()
        used_before = self.is_open
        try:
            self.send(data)
            return self.receive(method)
        except (ConnectionError, http.client.RemoteDisconnected):
            self.close()
            if not used_before:
                raise
        self.send(data)
        return self.receive(method)

    def encode(self, request: Request) -> bytes:
        """Return the bytes that ``ask`` sends: the request with the identity's key."""
        return self.signed(request)[0]

    def signed(self, request: Request) -> tuple[bytes, str]:
        """Return the bytes to send, and the request's id."""
        signature = {name: value for name in (REQUEST_ID, USER_AGENT) if (value := request.header(name)) is not None}
        given = frozenset(signature)
        request_id = EXCHANGES.sign(signature)
        added = ((name, value) for name, value in signature.items() if name not in given)
        headers = (*key_headers(self.identity, self.carrier).items(), *added, *request.headers)
        # A proxy on the way reads the server from the request itself, unless there is a tunnel through it.
        base = self.base if self._tls or not self.route.proxy else f"http://{self.authority}{self.base}"
        return replace(request, headers=headers).encode(base, self.authority), request_id

    def send(self, data: bytes) -> None:
        """Send bytes as they are, until an answer comes: a hop that refuses a body does not read it.

        Raises RequestLimitError, GivenUpError.
        """
        TRAFFIC.admit(self.route.url)
        connection = self._connection()
        for start in range(0, len(data), PIECE_BYTES):
            if start and self._is_answered():
                self._is_cut = True
                return
            connection.sendall(data[start : start + PIECE_BYTES])

    def _is_answered(self) -> bool:
        """Wait until more can be sent, or something has arrived. Return whether an answer has begun. Raises TimeoutError."""
        connection, reader = self._connection(), self._incoming()
        either = select.poll()
        either.register(connection, select.POLLIN | select.POLLOUT)
        if not (ready := either.poll(self.timeout * 1000)):
            raise TimeoutError("the other side neither reads nor answers")
        if not any(event & select.POLLIN for _, event in ready):
            return False
        connection.settimeout(0)
        try:
            return bool(begun := reader.peek(1)) and not begun.startswith(INTERIM)
        except ssl.SSLWantReadError:
            return False  # what has arrived is TLS's own
        finally:
            connection.settimeout(self.timeout)

    def receive(self, method: str = "GET") -> Answer:
        """Read one answer, and close the connection if the answer says so. Interim answers are skipped."""
        try:
            answer, is_last = _read_answer(self._incoming(), method)
        except BaseException:
            self.close()
            raise
        if is_last or self._is_cut:
            self.close()
        self._used = time.monotonic()
        return answer

    def receive_interim(self) -> Answer:
        """Read an interim answer, such as 100. Raises http.client.HTTPException if there is none."""
        incoming = self._incoming()
        status = incoming.readline().decode("latin-1")
        if not status.partition(" ")[2].startswith("1"):
            self.close()
            raise http.client.BadStatusLine(status)
        return Answer(int(status.split()[1]), tuple(http.client.parse_headers(incoming).items()), b"")

    def receive_last(self, method: str = "GET") -> Answer:
        """Read the last answer on the connection. Raises TimeoutError if the other side does not close the connection after it."""
        try:
            return _read_answer(_Reader(io.BytesIO(self._incoming().read())), method)[0]
        finally:
            self.close()

    def receive_some(self) -> bytes:
        """Return what has arrived, as soon as something has, without waiting for a whole answer. Empty at the end."""
        return self._incoming().read1()

    @property
    def is_open(self) -> bool:
        """Tell whether there is a connection that neither side is known to have closed."""
        return self._socket is not None

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._socket:
            self._socket.close()
            self._socket = self._reader = None
            self._is_cut = False

    def _incoming(self) -> _Reader:
        connection = self._connection()
        if self._reader is None:
            self._source = Incoming(connection, self._whole)
            self._reader = _Reader(self._source)
        self._source.begin()
        return self._reader

    def _connection(self) -> socket.socket:
        if self._socket is None:
            plain = self._plain()
            self.has_connected = True
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = self._encrypted(plain) if self._tls else plain
        return self._socket

    def _plain(self) -> socket.socket:
        if not self.route.proxy:
            return socket.create_connection((self._host, self._port), self.timeout)
        proxy = urlsplit(self.route.proxy)
        connection = http.client.HTTPConnection(proxy.hostname or "", proxy.port or 80, timeout=self.timeout)
        if self._tls:
            connection.set_tunnel(self._host, self._port)
        connection.connect()
        return cast(socket.socket, connection.sock)

    def _encrypted(self, plain: socket.socket) -> socket.socket:
        return _context(self.route.ca).wrap_socket(plain, server_hostname=self._host)


class _Reader(io.BufferedReader):
    """The data that arrives on a connection. It outlives each answer, as the next one may be in its buffer already."""

    def makefile(self, _mode: str) -> _Reader:
        """Return itself: ``HTTPResponse`` calls this on a socket."""
        return self

    def close(self) -> None:
        """Stay open: ``HTTPResponse`` closes it after an answer."""


def _read_answer(incoming: _Reader, method: str) -> tuple[Answer, bool]:
    """Return the next answer, and whether it is the last one on its connection."""
    response = http.client.HTTPResponse(cast(socket.socket, incoming), method=method)
    response.begin()
    body = _body(response, method)
    return Answer(response.status, tuple(response.getheaders()), body), response.will_close


@functools.cache
def _context(ca: str | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca)


def as_curl(wire: Wire, request: Request) -> str:
    """Return a command that sends the request again. The key is in a variable: see ``--keep-stack``."""
    parts = ["curl", "--include", "--path-as-is", "--request", request.method]
    if wire.route.ca:
        parts += ["--cacert", wire.route.ca]
    if wire.route.proxy:
        parts += ["--proxy", wire.route.proxy]
    for name, value in request.headers:
        parts += ["--header", f"{name}: {value}" if value else f"{name};"]
    command = shlex.join(parts)
    if wire.identity and wire.identity.key:
        header, before = header_of(wire.carrier)
        key = f"${wire.identity.variable}"
        command += f' --user "{wire.identity.user}:{key}"' if wire.carrier == "basic" else f' --header "{header}: {before}{key}"'
    if request.body:
        command += f" --data-binary {shlex.quote(request.body[:SHOWN_BYTES].decode(errors='replace'))}"
    return f"{command} {shlex.quote(wire.route.url + request.path)}"


def describe(wire: Wire, request: Request, came: object, expected: object, wrong: Sequence[str] = ()) -> str:
    """Describe a failed call: what was sent, what came, what was expected, what is wrong, and how to send it again."""
    who = wire.identity or "nobody"
    return "\n".join(
        [
            f"sent      {request.method} {request.path} as {who} ({wire.carrier}) on {wire.route}",
            f"came      {came}",
            f"expected  {expected}",
            *(f"wrong     {what}" for what in wrong),
            f"again     {as_curl(wire, request)}",
        ]
    )


def described(message: str) -> Mapping[str, str]:
    """Return the parts of a message that ``describe`` made, by their first words. Empty for any other message."""
    return dict(reversed(re.findall(rf"^(?:AssertionError: )?({'|'.join(DESCRIBED)}) +(.+)$", message, re.MULTILINE)))


def kind_of(message: str) -> str:
    """Return what messages about similar problems have in common: what came, what was expected, and what is wrong."""
    said = described(message)
    parts = [said[name] for name in ("came", "expected", "wrong") if name in said] or [message.partition("\n")[0]]
    return " ".join(VARYING.sub("…", part)[:SHOWN_OF_PART] for part in parts)
