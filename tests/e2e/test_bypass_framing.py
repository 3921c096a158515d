"""Where a request ends, and of what kind it is, has one answer at every hop: nothing rides past the gate in another request."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from urllib.parse import urlsplit

import pytest

from mlflow_proxy_e2e.checks.attempts import READ, SEARCH, Gate
from mlflow_proxy_e2e.target import Identity, Target
from mlflow_proxy_e2e.timeouts import ATTEMPT
from mlflow_proxy_e2e.wire import Answer, Headers, Request, Wire

NO_LENGTH = ("Connection", "Content-Length")
CHUNKED = ("Transfer-Encoding", "chunked")
# Spellings of that header which one server may take for it and another may not.
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
# Lengths, of which one is that of the body and the other that of what rides with it.
LENGTHS: tuple[tuple[str, ...], ...] = (
    *(("{short}", "{long}"), ("{long}", "{short}"), ("{short}, {long}",), ("{long},{short}",)),
    *(("+{short}",), ("-{short}",), ("0{short}",), ("{short};x",), ("0x{hex}",), ("{short} x",), ("{short}.0",), ("{short}_0",)),
    *(("{short}", "+{long}"), ("{short}", ""), ("\r\n {short}",)),
)
# Last chunks that are none, or not to everybody.
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
class Ride:
    """What rides in a read: the write, without a key, as MLflow would have it, then as the proxy would, or whoever is before it."""

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


Framing = Callable[[Ride], Request]


def length(body: bytes) -> Headers:
    """Return the header with the length of a body."""
    return (("Content-Length", str(len(body))),)


def chunks_end_first(chunked: Headers, ride: Ride) -> Request:
    """Who goes by the length takes what rides for body, who goes by the chunks for another request."""
    body = b"0\r\n\r\n" + ride.data
    return ride.request((*length(body), *chunked), body)


def chunks_end_first_and_are_said_first(chunked: Headers, ride: Ride) -> Request:
    """The same, with the headers the other way round."""
    body = b"0\r\n\r\n" + ride.data
    return ride.request((*chunked, *length(body)), body)


def length_ends_first(chunked: Headers, ride: Ride) -> Request:
    """Who goes by the chunks takes what rides for one of them, who goes by the length for another request."""
    size = f"{len(ride.data):x}\r\n".encode()
    return ride.request((*length(size), *chunked), size + ride.data + b"\r\n0\r\n\r\n")


def odd_lengths(lengths: Sequence[str], ride: Ride) -> Request:
    """There are two lengths, or one that not everybody can read."""
    body = ride.gate.subject.write("").body
    sizes = {"short": len(body), "long": len(body + ride.data), "hex": f"{len(body):x}"}
    return ride.request(tuple(("Content-Length", each.format(**sizes)) for each in lengths), body + ride.data)


def odd_last_chunk(last: str, ride: Ride) -> Request:
    """The chunk that should end it is odd."""
    return ride.request((CHUNKED,), last.encode() + ride.data)


def body_of(method: str, headers: Headers, ride: Ride) -> Request:
    """The method has no body, and there is one."""
    return ride.request((*length(ride.data), *headers), ride.data, method)


def after_the_end(headers: Headers, ride: Ride) -> Request:
    """There is no body, and something comes behind."""
    return ride.request((*length(b""), *headers), ride.data, "GET")


def in_a_header(end: str, ride: Ride) -> Request:
    """It is a header's value, behind what somebody may take for the end of all headers."""
    return ride.request((*length(b""), ("X-Note", "bare" + end + ride.data.decode())), b"", "GET")


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
    """Return the name under which MLflow itself is asked, as far as it is known."""
    return urlsplit((target.direct or gate.route).url).netloc


@pytest.mark.capability("destructive")
@pytest.mark.parametrize("kind", FRAMINGS)
def test_ride_on_a_read(kind: str, gate: Gate, control: Identity, target: Target) -> None:
    """In the read of somebody who may, nothing rides past the gate without a key, and others get their own answers afterwards."""
    hosts = {"": mlflow_host(gate, target), gate.base: urlsplit(gate.route.url).netloc}
    for framing in FRAMINGS[kind]:
        mark = gate.new_mark()
        write = gate.subject.write(mark).marked(mark)
        ride = Ride(gate, mark, b"".join(write.encode(base, host) for base, host in hosts.items()))
        wire = Wire(gate.origin, control, timeout=ATTEMPT)
        gate.attempt(wire, framing(ride), mark, harmless=None, is_attack=True)

    gate.assert_shut()


@pytest.mark.capability("destructive")
def test_ride_in_a_path(gate: Gate, control: Identity, target: Target) -> None:
    """In the path of somebody who may, no line's end is decoded, so that no second request comes of it."""
    for before in ("/health", READ, "/x", ""):
        for end in ("%0d%0a", "%0a", "%0D%0A%20", "%E5%98%8D%E5%98%8A", "%250d%250a"):
            mark = gate.new_mark()
            read = gate.subject.read().marked(mark)
            rest = f"GET%20{read.path}".replace("?", "%3f")
            odd = f"{gate.base}{before}%20HTTP/1.1{end}Host:%20{mlflow_host(gate, target)}{end}{end}{rest}"
            # The odd path itself may get as far as MLflow, which has nothing there. What must not is a request of its own.
            trace = f'"GET {read.path}'
            wire = Wire(gate.origin, control, timeout=ATTEMPT)
            gate.attempt(wire, Request("GET", odd), mark, harmless=None, trace=trace, is_attack=True)

    gate.assert_shut()


@pytest.mark.parametrize("protocol", UPGRADES)
def test_upgrade_without_key(protocol: str, gate: Gate, target: Target) -> None:
    """Without a key no connection is handed over to another protocol, and nothing reaches MLflow that asks for it."""
    for method in ("GET", "POST", "OPTIONS"):
        beside = gate.told_everybody(Request(method, f"/{gate.new_mark()}", UPGRADES[protocol]))
        for path in (gate.base + READ, gate.base + "/", "/health", "/", READ):
            request = replace(gate.subject.read(path), method=method, headers=UPGRADES[protocol])
            # What a server says at its own doorstep is no matter, as long as it is not MLflow that says it.
            is_doorstep = path in ("/health", "/")
            try_nobody(gate, request, target, harmless=None if is_doorstep else beside)

    gate.assert_shut()


def try_nobody(gate: Gate, request: Request, target: Target, harmless: Collection[Answer] | None = ()) -> None:
    """Attempt a request without a key. Where its method is open it may reach MLflow, and be told anything but what that holds."""
    mark = gate.new_mark()
    wire = Wire(gate.origin, timeout=ATTEMPT)
    if target.contract.is_open(request.method):
        gate.attempt(wire, request, mark, harmless=None)
    else:
        gate.attempt(wire, request.marked(mark), mark, harmless=harmless)


def test_upgrade_of_permitted_read(gate: Gate, control: Identity) -> None:
    """A connection is not handed over to who may read either: what follows on it would be seen by nobody."""
    for headers in UPGRADES.values():
        request = replace(gate.subject.read(gate.base + READ), headers=headers)
        gate.attempt(Wire(gate.origin, control, timeout=ATTEMPT), request, gate.new_mark(), harmless=None)

    gate.assert_shut()


def test_odd_method_without_key(gate: Gate, target: Target) -> None:
    """Without a key no method opens the gate, be it one that echoes, makes a tunnel, or is none."""
    for method in ("TRACE", "TRACK", "CONNECT", "OPTIONS", "HEAD", "get", "Get", "GETT", "PROPFIND", "PURGE", "X", "*", ""):
        try_nobody(gate, replace(gate.subject.read(gate.base + READ), method=method), target)

    gate.assert_shut()


def test_tunnel(gate: Gate, control: Identity, target: Target) -> None:
    """Nobody gets a tunnel, with a key or without: to MLflow, or back to the proxy itself."""
    for host in (mlflow_host(gate, target), "localhost:5000", urlsplit(gate.route.url).netloc, "example.com:443"):
        for caller in (None, control):
            request = Request("CONNECT", host, (("Host", host),))
            gate.attempt(Wire(gate.origin, caller, timeout=ATTEMPT), request, gate.new_mark())

    gate.assert_shut()


def test_trace_echoes_no_key(gate: Gate, control: Identity) -> None:
    """TRACE does not have the key come back, where a page's script could read it."""
    for path in (gate.base + READ, "/health", "/", "*"):
        gate.attempt(Wire(gate.origin, control, timeout=ATTEMPT), Request("TRACE", path), gate.new_mark(), harmless=None)

    gate.assert_shut()


def test_odd_request_line_without_key(gate: Gate) -> None:
    """Without a key neither another version of HTTP nor a line that is out of shape opens the gate."""
    shapes = (
        *("{0} HTTP/1.0\r\nX-Rest: x", "{0} HTTP/0.9\r\nX-Rest: x", "{0} HTTP/2.0\r\nX-Rest: x", "{0} HTTP/1.2\r\nX-Rest: x"),
        *("{0}\r\nX-Rest: x", "{0} http/1.1\r\nX-Rest: x", " {0}", "\t{0}", "{0} x", "{0} \r\nX-Rest: x", "{0}\x00", "{0}\x0b"),
        *("/health {0}", "/health\t{0}", "/health HTTP/1.1\nGET {0}", "{0} HTTP/1.1\nX-Rest: x", "/health\x00{0}", "/health\r{0}"),
    )
    plain = gate.subject.read(gate.base + READ)
    for shape in shapes:
        mark = gate.new_mark()
        request = replace(plain, path=shape.format(plain.marked(mark).path))
        beside = gate.told_everybody(replace(plain, path=shape.format(f"{gate.base}/{gate.new_mark()}")))
        harmless = None if shape.startswith("/health") else beside
        gate.attempt(Wire(gate.origin, timeout=ATTEMPT), request, mark, harmless=harmless)

    gate.assert_shut()
