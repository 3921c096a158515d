"""Observations by name, as data: written without keys, and read again where there is no network."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlflow_proxy_e2e.errors import BadFileError
from mlflow_proxy_e2e.facts.question import Question, Reply
from mlflow_proxy_e2e.redaction import INSTEAD, without
from mlflow_proxy_e2e.target import Hop, Route, Secret, Target
from mlflow_proxy_e2e.wire import Answer

FORMAT = 1  # raised when a field is removed or changes its meaning
PLAIN_BYTES = 2000  # longest body that is written as text
DIGESTED_BYTES = 64 << 10  # of a request: longer ones are identified by their beginning and length
PACKED_BYTES = 64 << 10  # of a compressed body: larger ones are cut
HIDDEN = Secret(INSTEAD)  # written in place of a key


class Recording:
    """The observations of a target.

    Args:
        target: the target observed.
        observations: plain data and replies, by the name of the question.
    """

    def __init__(self, target: Target, observations: Mapping[str, Any] | None = None) -> None:
        self.target = target
        self.observations: dict[str, Any] = dict(observations or {})

    def write(self, file: Path, secrets: Iterable[Secret]) -> None:
        """Write everything but keys, compressed if the file's name ends with ``.gz``. Raises OSError."""
        hidden = tuple(secrets)
        data = {
            "format": FORMAT,
            "target": _without_keys(self.target).to_data(),
            "observations": {key: _encoded(value, hidden) for key, value in sorted(self.observations.items())},
        }
        text = without(hidden, json.dumps(data, indent=0, ensure_ascii=False)).encode()
        file.write_bytes(gzip.compress(text, mtime=0) if file.suffix == ".gz" else text)

    @classmethod
    def read(cls, file: Path) -> Recording:
        """Read a recording from a file. Raises BadFileError."""
        try:
            content = file.read_bytes()
            data = json.loads(gzip.decompress(content) if file.suffix == ".gz" else content)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise BadFileError(f"{file}: no facts can be read from it: {error}. Write some with check --facts=FILE.") from None
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise BadFileError(f"{file}: not a facts file of this version of the suite. Write it again with check --facts=FILE.")
        target = Target.from_data(data["target"])
        return cls(target, {key: _decoded(value) for key, value in data["observations"].items()})


def _without_keys(target: Target) -> Target:
    """Return the target without keys and without paths of this machine."""
    return replace(
        target,
        identities=tuple(replace(identity, key=HIDDEN if identity.key else None) for identity in target.identities),
        keys=replace(target.keys, token=HIDDEN) if target.keys else None,
        routes=tuple(map(_elsewhere, target.routes)),
        direct=_elsewhere(target.direct) if target.direct else None,
        hops=tuple(Hop(hop.name, hop.url, hop.health, "") for hop in target.hops),
    )


def _elsewhere(route: Route) -> Route:
    return replace(route, ca=None)


def _encoded(value: Any, hidden: tuple[Secret, ...]) -> Any:
    if not isinstance(value, Reply):
        return value
    came: dict[str, Any] = {"id": value.request_id, "seconds": round(value.seconds, 3)}
    if isinstance(value.came, Answer):
        came |= {"status": value.came.status, "headers": list(map(list, value.came.headers)), **_body(value.came.body, hidden)}
    else:
        came["failure"] = value.came
    return {"reply": came}


def _body(body: bytes, hidden: tuple[Secret, ...]) -> dict[str, str]:
    if len(body) <= PLAIN_BYTES:
        body = without(hidden, body.decode("latin-1")).encode("latin-1")
    else:
        for secret in hidden:
            body = body.replace(secret.reveal().encode(), INSTEAD.encode())
    if len(body) <= PLAIN_BYTES:
        return {"body": body.decode("latin-1")}
    packed = zlib.compress(body, 9)
    if len(packed) > PACKED_BYTES:
        packed = zlib.compress(body[:PLAIN_BYTES], 9)
    return {"packed": base64.b64encode(packed).decode()}


def _decoded(value: Any) -> Any:
    if not isinstance(value, dict) or "reply" not in value:
        return value
    came = value["reply"]
    if "failure" in came:
        return Reply(NO_QUESTION, came["id"], came["failure"], came["seconds"])
    body = zlib.decompress(base64.b64decode(came["packed"])) if "packed" in came else came["body"].encode("latin-1")
    headers = tuple((name, text) for name, text in came["headers"])
    return Reply(NO_QUESTION, came["id"], Answer(came["status"], headers, body), came["seconds"])


NO_QUESTION = Question(Route("", ""), request=None)  # type: ignore[arg-type]  # the caller knows it


def named(question: Question, secrets: Iterable[Secret]) -> str:
    """Return the name of a question: the same on every machine, and without keys."""
    request, hidden = question.request, tuple(secrets)
    who = f"{question.who.name} {question.carrier or question.who.carrier}" if question.who else "nobody"
    sent = without(hidden, repr(request.headers)).encode() + request.body[:DIGESTED_BYTES] + str(len(request.body)).encode()
    digest = hashlib.sha1(sent, usedforsecurity=False).hexdigest()[:12]
    content = f" with {digest}" if request.headers or request.body else ""
    return without(hidden, f"{request.method} {request.path} on {_place(question.route)} as {who}{content}")


def _place(route: Route) -> str:
    return f"{route.name} {route.url}" + (f" via {route.proxy}" if route.proxy else "")
