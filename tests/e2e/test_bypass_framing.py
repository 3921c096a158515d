"""Every hop agrees on where a request ends and what kind it is: nothing is smuggled past the gate."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from urllib.parse import urlsplit

import pytest

from mlflow_proxy_e2e.checks.gate import READ, SEARCH, Gate
from mlflow_proxy_e2e.target import Target
from mlflow_proxy_e2e.wire import Answer, Headers, Request

NO_LENGTH = ("Connection", "Content-Length")
CHUNKED = ("Transfer-Encoding", "chunked")
# Spellings of that header that some servers accept and others do not.
ODDLY_CHUNKED: tuple[Headers, ...] = (
    (CHUNKED,),
    (("Transfer-Encoding", "CHUNKED"),),
    (("Transfer-Encoding", "xchunked"),),
    (("Transfer-Encoding", "chunkedx"),),
    (("Transfer-Encoding", "chunked, identity"),),
    (("Transfer-Encoding", "identity, chunked"),),
    (("Transfer-Encoding", "gzip, chunked"),),
    (("Transfer-Encoding", "chunked;x=y"),),
    (("Transfer-Encoding", ",chunked"),),
    (("Transfer-Encoding", '"chunked"'),),
    (("Transfer-Encoding", "\tchunked"),),
    (("Transfer-Encoding", "\x0bchunked"),),
    (("Transfer-Encoding", "\r\n chunked"),),
    (("Transfer-Encoding ", "chunked"),),
    (("Transfer_Encoding", "chunked"),),
    (CHUNKED, ("Transfer-Encoding", "identity")),
    (("Transfer-Encoding", "identity"), CHUNKED),
    (("Transfer-Encoding", ""), CHUNKED),
    (("X-Note", "bare\nTransfer-Encoding: chunked"),),
    (("X-Note", "bare\rTransfer-Encoding: chunked"),),
    (("Connection", "Transfer-Encoding"), CHUNKED),
    (NO_LENGTH, CHUNKED),
)
# Lengths: one is the body's, the other one that of the smuggled request after it.
LENGTHS: tuple[tuple[str, ...], ...] = (
    *(("{short}", "{long}"), ("{long}", "{short}"), ("{short}, {long}",), ("{long},{short}",)),
    *(("+{short}",), ("-{short}",), ("0{short}",), ("{short};x",), ("0x{hex}",), ("{short} x",), ("{short}.0",), ("{short}_0",)),
    *(("{short}", "+{long}"), ("{short}", ""), ("\r\n {short}",)),
)
# Last chunks that are invalid, or only some servers accept.
LAST_CHUNKS = (
    *(
        "0;x=y\r\n\r\n",
        '0;x="\r\n"\r\n\r\n',
        "0;\n\r\n",
        "0 \r\n\r\n",
        "0\t;x\r\n\r\n",
        "0x0\r\n\r\n",
        "+0\r\n\r\n",
        "-0\r\n\r\n",
        "000\r\n\r\n",
    ),
    *(
        "0\n\n",
        "0\r\r",
        "0_0\r\n\r\n",
        "\r\n0\r\n\r\n",
        "g\r\n\r\n",
        "0\r\nX-Auth-Key-Id: key_1\r\n\r\n",
        "0\r\nContent-Length: 5\r\n\r\n",
    ),
    *("2\r\n{}xx0\r\n\r\n", "2;\nxx\r\n{}\r\n0\r\n\r\n", "2;x\rxx\r\n{}\r\n0\r\n\r\n"),
)


@dataclass(frozen=True)
class Smuggled:
    """A write without a key, smuggled in a read: as MLflow would get it, and as the first hop would."""

    gate: Gate
    mark: str
    data: bytes

    def request(self, headers: Headers, body: bytes, method: str = "POST") -> Request:
        """Return a read with that framing."""
        if method == "POST":
            plain = self.gate.subject.write("", self.gate.base + SEARCH)
        else:
            plain = replace(self.gate.subject.read(self.gate.base + READ), method=method)
        return replace(plain, headers=(*plain.headers, *headers), body=body)


Framing = Callable[[Smuggled], Request]


def length(body: bytes) -> Headers:
    """Return the header with the length of a body."""
    return (("Content-Length", str(len(body))),)


def chunks_end_first(chunked: Headers, smuggled: Smuggled) -> Request:
    """A server that uses the length sees a body, one that uses the chunks a second request."""
    body = b"0\r\n\r\n" + smuggled.data
    return smuggled.request((*length(body), *chunked), body)


def chunks_end_first_and_are_said_first(chunked: Headers, smuggled: Smuggled) -> Request:
    """The same, with the headers in the opposite order."""
    body = b"0\r\n\r\n" + smuggled.data
    return smuggled.request((*chunked, *length(body)), body)


def length_ends_first(chunked: Headers, smuggled: Smuggled) -> Request:
    """A server that uses the chunks sees a chunk, one that uses the length a second request."""
    size = f"{len(smuggled.data):x}\r\n".encode()
    return smuggled.request((*length(size), *chunked), size + smuggled.data + b"\r\n0\r\n\r\n")


def odd_lengths(lengths: Sequence[str], smuggled: Smuggled) -> Request:
    """There are two lengths, or one that not every server can parse."""
    body = smuggled.gate.subject.write("").body
    sizes = {"short": len(body), "long": len(body + smuggled.data), "hex": f"{len(body):x}"}
    return smuggled.request(tuple(("Content-Length", each.format(**sizes)) for each in lengths), body + smuggled.data)


def odd_last_chunk(last: str, smuggled: Smuggled) -> Request:
    """The last chunk is odd."""
    return smuggled.request((CHUNKED,), last.encode() + smuggled.data)


def body_of(method: str, headers: Headers, smuggled: Smuggled) -> Request:
    """The method has no body, and there is one."""
    return smuggled.request((*length(smuggled.data), *headers), smuggled.data, method)


def after_the_end(headers: Headers, smuggled: Smuggled) -> Request:
    """There is no body, and something follows."""
    return smuggled.request((*length(b""), *headers), smuggled.data, "GET")


def in_a_header(end: str, smuggled: Smuggled) -> Request:
    """It is a header's value, after what some servers may take for the end of all headers."""
    return smuggled.request((*length(b""), ("X-Note", "bare" + end + smuggled.data.decode())), b"", "GET")


WEBSOCKET: Headers = (("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="))
H2C: Headers = (("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABkAAQAAP__"))
UPGRADES: Mapping[str, Headers] = {
    "websocket": (*WEBSOCKET, ("Sec-WebSocket-Version", "13")),
    "websocket-unknown": (*WEBSOCKET, ("Sec-WebSocket-Version", "777")),
    "h2c": H2C,
    "h2c-unconnected": H2C[1:],
    "tls": (("Connection", "Upgrade"), ("Upgrade", "TLS/1.2, HTTP/1.1")),
}
FRAMINGS: Mapping[str, Sequence[Framing]] = {
    "chunks-end-first": [
        partial(way, headers) for headers in ODDLY_CHUNKED for way in (chunks_end_first, chunks_end_first_and_are_said_first)
    ],
    "length-ends-first": [partial(length_ends_first, headers) for headers in ODDLY_CHUNKED],
    "odd-lengths": [partial(odd_lengths, lengths) for lengths in LENGTHS],
    "odd-chunks": [partial(odd_last_chunk, last) for last in LAST_CHUNKS],
    "no-body-expected": [
        *(partial(body_of, method, headers) for method in ("GET", "HEAD", "OPTIONS") for headers in ((), (NO_LENGTH,))),
        *(partial(body_of, "GET", (("Expect", value),)) for value in ("100-continue", "100-Continue ", "x", "\r\n 100-continue")),
        *(partial(after_the_end, headers) for headers in UPGRADES.values()),
        *(partial(in_a_header, end) for end in ("\n\n", "\r\r", "\n\r\n", "\x00\r\n\r\n")),
    ],
}


def mlflow_host(gate: Gate, target: Target) -> str:
    """Return the host name of MLflow itself, as far as it is known."""
    return urlsplit((target.direct or gate.route).url).netloc


@pytest.mark.capability("destructive")
@pytest.mark.parametrize("kind", FRAMINGS)
def test_ride_on_a_read(kind: str, gate: Gate, target: Target) -> None:
    """No request without a key is smuggled past the gate in a permitted read, and others get their own answers afterwards."""
    hosts = {"": mlflow_host(gate, target), gate.base: urlsplit(gate.route.url).netloc}
    for framing in FRAMINGS[kind]:
        mark = gate.marks.new()
        write = gate.subject.write(mark).marked(mark)
        smuggled = Smuggled(gate, mark, b"".join(write.encode(base, host) for base, host in hosts.items()))
        wire = gate.wire(gate.control)
        gate.attempt(wire, framing(smuggled), mark, harmless=None, is_attack=True)

    gate.assert_shut()


@pytest.mark.capability("destructive")
def test_ride_in_a_path(gate: Gate, target: Target) -> None:
    """No line break is decoded in a permitted caller's path, so that it does not become a second request."""
    for before in ("/health", READ, "/x", ""):
        for end in ("%0d%0a", "%0a", "%0D%0A%20", "%E5%98%8D%E5%98%8A", "%250d%250a"):
            mark = gate.marks.new()
            read = gate.subject.read().marked(mark)
            rest = f"GET%20{read.path}".replace("?", "%3f")
            odd = f"{gate.base}{before}%20HTTP/1.1{end}Host:%20{mlflow_host(gate, target)}{end}{end}{rest}"
            # The odd path may reach MLflow, which has nothing there. It must not become a second request.
            trace = f'"GET {read.path}'
            wire = gate.wire(gate.control)
            gate.attempt(wire, Request("GET", odd), mark, harmless=None, trace=trace, is_attack=True)

    gate.assert_shut()


@pytest.mark.parametrize("protocol", UPGRADES)
def test_upgrade_without_key(protocol: str, gate: Gate, target: Target) -> None:
    """No connection is upgraded to another protocol without a key, and no such request reaches MLflow."""
    for method in ("GET", "POST", "OPTIONS"):
        public = gate.public_answers(Request(method, f"/{gate.marks.new()}", UPGRADES[protocol]))
        for path in (gate.base + READ, gate.base + "/", "/health", "/", READ):
            request = replace(gate.subject.read(path), method=method, headers=UPGRADES[protocol])
            # What a server answers on its own root and health path does not matter, unless it is MLflow's answer.
            is_servers_own = path in ("/health", "/")
            try_without_key(gate, request, target, harmless=None if is_servers_own else public)

    gate.assert_shut()


def try_without_key(gate: Gate, request: Request, target: Target, harmless: Collection[Answer] | None = ()) -> None:
    """Attempt a request without a key. If its method is open, it may reach MLflow and get any answer without data from MLflow."""
    mark = gate.marks.new()
    wire = gate.wire()
    if target.contract.is_open(request.method):
        gate.attempt(wire, request, mark, harmless=None)
    else:
        gate.attempt(wire, request.marked(mark), mark, harmless=harmless)


def test_upgrade_of_permitted_read(gate: Gate) -> None:
    """A permitted read's connection is not upgraded either: no hop would check what follows."""
    for headers in UPGRADES.values():
        request = replace(gate.subject.read(gate.base + READ), headers=headers)
        gate.attempt(gate.wire(gate.control), request, gate.marks.new(), harmless=None)

    gate.assert_shut()


def test_odd_method_without_key(gate: Gate, target: Target) -> None:
    """No method opens the gate without a key, be it one that echoes, makes a tunnel, or does not exist."""
    for method in ("TRACE", "TRACK", "CONNECT", "OPTIONS", "HEAD", "get", "Get", "GETT", "PROPFIND", "PURGE", "X", "*", ""):
        try_without_key(gate, replace(gate.subject.read(gate.base + READ), method=method), target)

    gate.assert_shut()


def test_tunnel(gate: Gate, target: Target) -> None:
    """Nobody gets a tunnel, with or without a key: to MLflow, or back to the proxy itself."""
    for host in (mlflow_host(gate, target), "localhost:5000", urlsplit(gate.route.url).netloc, "example.com:443"):
        for caller in (None, gate.control):
            request = Request("CONNECT", host, (("Host", host),))
            gate.attempt(gate.wire(caller), request, gate.marks.new())

    gate.assert_shut()


def test_trace_echoes_no_key(gate: Gate) -> None:
    """TRACE does not echo the key, which a page's script could then read."""
    for path in (gate.base + READ, "/health", "/", "*"):
        gate.attempt(gate.wire(gate.control), Request("TRACE", path), gate.marks.new(), harmless=None)

    gate.assert_shut()


def test_odd_request_line_without_key(gate: Gate) -> None:
    """Neither another version of HTTP nor a malformed request line opens the gate without a key."""
    shapes = (
        *("{0} HTTP/1.0\r\nX-Rest: x", "{0} HTTP/0.9\r\nX-Rest: x", "{0} HTTP/2.0\r\nX-Rest: x", "{0} HTTP/1.2\r\nX-Rest: x"),
        *("{0}\r\nX-Rest: x", "{0} http/1.1\r\nX-Rest: x", " {0}", "\t{0}", "{0} x", "{0} \r\nX-Rest: x", "{0}\x00", "{0}\x0b"),
        *("/health {0}", "/health\t{0}", "/health HTTP/1.1\nGET {0}", "{0} HTTP/1.1\nX-Rest: x", "/health\x00{0}", "/health\r{0}"),
    )
    plain = gate.subject.read(gate.base + READ)
    for shape in shapes:
        mark = gate.marks.new()
        request = replace(plain, path=shape.format(plain.marked(mark).path))
        public = gate.public_answers(replace(plain, path=shape.format(f"{gate.base}/{gate.marks.new()}")))
        harmless = None if shape.startswith("/health") else public
        gate.attempt(gate.wire(), request, mark, harmless=harmless)

    gate.assert_shut()
