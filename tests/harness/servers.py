"""Servers on loopback that treat each request as a test wants."""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import threading
from collections.abc import Callable

TLS_HANDSHAKE = b"\x16\x03"  # the first bytes from a client that wants to encrypt

Behaviour = Callable[[socket.socket, bytes], None]  # handles a connection on which a request has arrived


def answer(status: str, *headers: str, body: bytes = b"") -> bytes:
    """Return an answer as bytes on the wire."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1") + body


def json_answer(status: str, body: str, *headers: str) -> bytes:
    """Return an answer in JSON."""
    return answer(status, "Content-Type: application/json", *headers, body=body.encode())


def says(*answers: bytes) -> Behaviour:
    """Give these answers in turn."""
    turns = itertools.cycle(answers)
    return lambda connection, _: connection.sendall(next(turns))


def closes(connection: socket.socket, _: bytes) -> None:
    """Close the connection without an answer."""
    connection.close()


def breaks_off(part: bytes) -> Behaviour:
    """Send part of an answer, and close the connection."""

    def behave(connection: socket.socket, _: bytes) -> None:
        connection.sendall(part)
        connection.close()

    return behave


class Server:
    """A server on loopback with that behaviour, for any number of clients, until it is closed."""

    def __init__(self, behaviour: Behaviour, tls: ssl.SSLContext | None = None) -> None:
        self._behaviour, self._tls = behaviour, tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more connections; existing ones end with their clients."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):  # the client has closed the connection
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            while request := _read_request(connection):
                self._behaviour(connection, request)


def _read_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        if not (part := connection.recv(65536)):
            return b""
        data += part
        if data.startswith(TLS_HANDSHAKE):
            return data
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return head
