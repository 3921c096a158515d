"""Sends a recorded run straight to an MLflow server: ``python -m bench.replay RECORDING URL``."""

from __future__ import annotations

import io
import pickle
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

from bench.recorder import Exchange

TIMEOUT = 60.0  # seconds, for one answer to begin
# Where an identifier stands in a request: the server gives out others than it did when the requests were recorded.
IDENTIFIERS = re.compile(
    r"\b(?:[a-z]{1,3}-)?[0-9a-f]{32}\b|(?<=experiment_id=)\d+|(?<=experiment_ids=)\d+|(?<=/artifacts/)\d+(?=/)"
)
EXPERIMENT_IN_JSON = re.compile(r'(?<="experiment_id": ")\d+|(?<="experiment_ids": \[")\d+')


def replay(recording: Path, url: str) -> None:
    """Send everything in ``recording`` to the server at ``url``, one after the other."""
    now: dict[str, str] = {}
    with requests.Session() as session:
        session.trust_env = False
        for exchange in _exchanges(recording):
            answer = _send(session, url, exchange, now)
            if exchange.answer is not None and "json" in answer.headers.get("Content-Type", ""):
                _learn(exchange.answer, answer.json(), now)


def _send(session: requests.Session, url: str, exchange: Exchange, now: dict[str, str]) -> requests.Response:
    def current(match: re.Match[str]) -> str:
        return now.get(match[0], match[0])

    body: Any = exchange.body
    if isinstance(body, int):
        body = io.BytesIO(bytes(body))
    elif body and exchange.content_type and "json" in exchange.content_type:
        body = EXPERIMENT_IN_JSON.sub(current, IDENTIFIERS.sub(current, body.decode())).encode()
    headers = {"Content-Type": exchange.content_type} if exchange.content_type else {}
    return session.request(
        exchange.method,
        url + IDENTIFIERS.sub(current, exchange.path),
        data=body,
        headers=headers,
        timeout=TIMEOUT,
        allow_redirects=False,
    )


def _learn(then: Any, now: Any, identifiers: dict[str, str]) -> None:
    """Note which identifier of the recording is which one now, wherever both answers have a string in the same place."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in then.keys() & now.keys():
            _learn(then[key], now[key], identifiers)
    elif isinstance(then, list) and isinstance(now, list):
        for before, after in zip(then, now, strict=False):
            _learn(before, after, identifiers)
    elif isinstance(then, str) and isinstance(now, str) and then != now:
        identifiers[then] = now


def _exchanges(recording: Path) -> Iterator[Exchange]:
    with recording.open("rb") as file:
        while file.peek(1):
            yield Exchange(*pickle.load(file))  # noqa: S301 - this run wrote it


if __name__ == "__main__":
    replay(Path(sys.argv[1]), sys.argv[2])
