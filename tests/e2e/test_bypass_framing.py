"""Where one request ends and the next begins is not for a client to have two opinions on: nothing rides past the gate in another's body."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from fixtures.target import Identity, Target
from fixtures.wire import Headers, Request, Wire
from tests.e2e.gate import READ, SEARCH, SECONDS, WRITE, Gate

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
    (("Connection", "Content-Length"), CHUNKED),
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
    *("2\r\n{{}}xx0\r\n\r\n", "2;\nxx\r\n{{}}\r\n0\r\n\r\n", "2;x\rxx\r\n{{}}\r\n0\r\n\r\n"),
)


class Rider(NamedTuple):
    """Requests without a key, one after the other, to ride in another's body."""

    mark: str
    data: bytes


def rider(gate: Gate, target: Target) -> Rider:
    """Return the write as MLflow would have it, then as the proxy and whoever is before it would."""
    mark = gate.new_mark()
    to_mlflow = urlsplit((target.direct or gate.route).url).netloc
    ways = {"": to_mlflow, gate.base: urlsplit(gate.route.url).netloc}
    return Rider(mark, b"".join(gate.subject.write(mark, WRITE).marked(mark).encode(base, host) for base, host in ways.items()))


def ridden(gate: Gate, rider: Rider, headers: Headers, body: bytes, method: str = "POST") -> Request:
    """Return the request in which it rides: a read, and nothing but."""
    plain = (
        gate.subject.write("", gate.base + SEARCH)
        if method == "POST"
        else replace(gate.subject.read(gate.base + READ), method=method)
    )
    return replace(plain, headers=(*plain.headers, *headers), body=body)


def both_lengths(gate: Gate, rider: Rider) -> Iterator[Request]:
    """Give requests with a length and chunks, which end where the chunks say, or where the length does."""
    ends_first = b"0\r\n\r\n" + rider.data
    size = f"{len(rider.data):x}\r\n".encode()
    chunk = size + rider.data + b"\r\n0\r\n\r\n"
    for headers in ODDLY_CHUNKED:
        yield ridden(gate, rider, (("Content-Length", str(len(ends_first))), *headers), ends_first)
        yield ridden(gate, rider, (*headers, ("Content-Length", str(len(ends_first)))), ends_first)
        yield ridden(gate, rider, (("Content-Length", str(len(size))), *headers), chunk)


def two_lengths(gate: Gate, rider: Rider) -> Iterator[Request]:
    """Give requests with two lengths, or one that not everybody can read."""
    body = gate.subject.write("").body
    sizes = {"short": len(body), "long": len(body + rider.data), "hex": f"{len(body):x}"}
    for lengths in LENGTHS:
        headers = tuple(("Content-Length", length.format(**sizes)) for length in lengths)
        yield ridden(gate, rider, headers, body + rider.data)


def odd_chunks(gate: Gate, rider: Rider) -> Iterator[Request]:
    """Give requests whose last chunk is odd."""
    for last in LAST_CHUNKS:
        yield ridden(gate, rider, (CHUNKED,), last.format().encode() + rider.data)


def unexpected_bodies(gate: Gate, rider: Rider) -> Iterator[Request]:
    """Give requests of methods that have no body, with one, and such whose body comes after something else has been agreed on."""
    length = ("Content-Length", str(len(rider.data)))
    for method in ("GET", "HEAD", "OPTIONS"):
        yield ridden(gate, rider, (length,), rider.data, method)
        yield ridden(gate, rider, (length, ("Connection", "Content-Length")), rider.data, method)
    none = ("Content-Length", "0")
    for expect in ("100-continue", "100-Continue ", "x", "\r\n 100-continue"):
        yield ridden(gate, rider, (length, ("Expect", expect)), rider.data, "GET")
    for upgrade in UPGRADES.values():
        yield ridden(gate, rider, (none, *upgrade), rider.data, "GET")
    yield ridden(gate, rider, (none, ("X-Note", "bare\n\n" + rider.data.decode())), b"", "GET")
    yield ridden(gate, rider, (none, ("X-Note", "bare\r\r" + rider.data.decode())), b"", "GET")


WEBSOCKET: Headers = (("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="))
H2C: Headers = (("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABkAAQAAP__"))
UPGRADES: Mapping[str, Headers] = {
    "websocket": (*WEBSOCKET, ("Sec-WebSocket-Version", "13")),
    "websocket-unknown": (*WEBSOCKET, ("Sec-WebSocket-Version", "777")),
    "h2c": H2C,
    "h2c-unconnected": H2C[1:],
    "tls": (("Connection", "Upgrade"), ("Upgrade", "TLS/1.2, HTTP/1.1")),
    "connect": (("Connection", "Upgrade"), ("Upgrade", "connect-udp")),
}
FRAMINGS = {
    "both-lengths": both_lengths,
    "two-lengths": two_lengths,
    "odd-chunks": odd_chunks,
    "unexpected-bodies": unexpected_bodies,
}


@pytest.mark.parametrize("kind", FRAMINGS)
def test_ride_with_a_key(kind: str, gate: Gate, control: Identity, target: Target) -> None:
    """In the body of a good caller's read no write rides past the gate, and others get their own answers afterwards."""
    count = len(list(FRAMINGS[kind](gate, rider(gate, target))))
    for number in range(count):
        passenger = rider(gate, target)
        request = list(FRAMINGS[kind](gate, passenger))[number]
        gate.attempt(Wire(gate.origin, control, timeout=SECONDS), request, passenger.mark, harmless=None, is_attack=True)

    gate.assert_shut()
