"""The way of a request through the hops of a stack that we own, as their logs have it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.access_log import AccessLog
from mlflow_proxy_e2e.target import Hop, Target

POLL_SECONDS = 0.1
SHOWN = ("method", "path", "status", "details", "flags", "upstream", "milliseconds")  # of what an Envoy says of a request


@dataclass(frozen=True)
class Step:
    """A line of a hop's log. ``said`` is what stands in it, if it is JSON."""

    hop: str
    line: str
    said: Mapping[str, Any]

    def __str__(self) -> str:
        shown = " ".join(f"{self.said[name]}" for name in SHOWN if name in self.said)
        return f"{self.hop}: {shown or self.line.strip()}"


class Trail:
    """What the hops' logs say of requests, by their ids."""

    def __init__(self, target: Target) -> None:
        self._hops = target.hops
        self._known: dict[str, tuple[Step, ...]] = {}

    def steps(self, request_id: str) -> tuple[Step, ...]:
        """Return the lines with an id, in the order of the hops. Waits for a moment until they are written."""
        if request_id not in self._known:
            end = time.monotonic() + timeouts.WRITTEN
            while not self._found(request_id) and time.monotonic() < end:
                time.sleep(POLL_SECONDS)
            time.sleep(timeouts.WRITTEN_BY_ALL)  # one hop has written: now every other has, too
            self._known[request_id] = self._found(request_id)
        return self._known[request_id]

    def at(self, hop: str, request_id: str) -> tuple[Step, ...]:
        """Return the lines with an id in the log of one hop, or of the several servers of that hop."""
        return tuple(step for step in self.steps(request_id) if step.hop.partition("-")[0] == hop)

    def with_any_of(self, texts: Iterable[str], hop: str) -> list[Step]:
        """Return the lines of one hop's log that have such a text in them."""
        return [step for known in self._hops if known.name == hop for text in texts for step in _steps(known, text)]

    def _found(self, request_id: str) -> tuple[Step, ...]:
        return tuple(step for hop in self._hops for step in _steps(hop, request_id))


def _steps(hop: Hop, text: str) -> list[Step]:
    return [Step(hop.name, line, _said(line)) for line in AccessLog([hop.log]).lines_with(text)]


def _said(line: str) -> Mapping[str, Any]:
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
