"""A question to a target, and the reply to it."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from mlflow_proxy_e2e.target import Carrier, Identity, Route
from mlflow_proxy_e2e.wire import Answer, Request

SHOWN_CHARACTERS = 90  # of a path
SHOWN_BODY = 160  # characters of a body
DECODABLE = ("gzip", "deflate")
MOST_BYTES = 32 << 20  # of a decompressed body: more than a diagnosis ever stores, and too little for a zip bomb to do harm
EITHER_HEADER = zlib.MAX_WBITS | 32  # zlib detects which of the two formats it is

NoAnswer = Literal[
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


@dataclass(frozen=True)
class Question:
    """A request by an identity on a route. ``who`` is None for a caller without a key."""

    route: Route
    request: Request
    who: Identity | None = None
    carrier: Carrier | None = None

    @property
    def by(self) -> str:
        """Return the caller as reports name it: the identity and, if it has a key, the carrier."""
        if self.who is None:
            return "nobody"
        return f"{self.who} ({self.carrier or self.who.carrier})" if self.who.key else f"{self.who}"

    def __str__(self) -> str:
        return f"{self.request.method} {self.request.path[:SHOWN_CHARACTERS]} on {self.route} as {self.by}"


@dataclass(frozen=True)
class Reply:
    """The reply to a question: an answer, or why there is none. Hops log the request under ``request_id``."""

    question: Question
    request_id: str
    came: Answer | NoAnswer
    seconds: float

    @property
    def status(self) -> int | None:
        """Return the answer's status, or None if none came."""
        return self.came.status if isinstance(self.came, Answer) else None

    @property
    def failure(self) -> NoAnswer | None:
        """Return why no answer came, or None if one did."""
        return None if isinstance(self.came, Answer) else self.came

    @cached_property
    def body(self) -> bytes:
        """Return the answer's body, decompressed as clients do it. It is empty if no answer came."""
        return _decoded(self.came) if isinstance(self.came, Answer) else b""

    def header(self, name: str) -> str | None:
        """Return the answer's first header with that name, or None."""
        return self.came.header(name) if isinstance(self.came, Answer) else None

    def json(self) -> Any:
        """Return the body as JSON, or None if it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def error_code(self) -> str | None:
        """Return the error code if the body is an error in MLflow's format, or None."""
        said = self.json()
        return str(said["error_code"]) if isinstance(said, dict) and {"error_code", "message"} <= set(said) else None

    @property
    def works(self) -> bool:
        """Tell whether a read was answered as MLflow answers it."""
        return self.status == 200 and isinstance(self.json(), dict) and self.error_code is None

    def __str__(self) -> str:
        came: str = self.came if not isinstance(self.came, Answer) else str(self.came.status)
        if isinstance(self.came, Answer):
            text = " ".join(self.body[: 4 * SHOWN_BODY].decode(errors="replace").split())
            kind = (self.header("Content-Type") or "no content type").partition(";")[0]
            location = f", Location {self.header('Location')}" if self.header("Location") else ""
            came += f" {kind}{location} {text[:SHOWN_BODY]!r}"
        return f"{self.question}: {came} after {self.seconds:.1f} s"


def _decoded(answer: Answer) -> bytes:
    """Return the decompressed body, or the body as received if it is not compressed properly or too large."""
    if answer.header("Content-Encoding") not in DECODABLE:
        return answer.body
    decompressor = zlib.decompressobj(EITHER_HEADER)
    try:
        body = decompressor.decompress(answer.body, MOST_BYTES)
    except zlib.error:
        return answer.body
    return body if decompressor.eof else answer.body
