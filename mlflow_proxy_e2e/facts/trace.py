"""The way of a request through the hops of the lab's own stack, by their logs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.access_log import AccessLog
from mlflow_proxy_e2e.target import Hop

POLL_SECONDS = 0.1
SHOWN = ("method", "path", "status", "details", "flags", "upstream", "milliseconds")  # fields of Envoy's log


@dataclass(frozen=True)
class LogLine:
    """A line of a hop's log."""

    hop: str
    line: str

    @property
    def said(self) -> Mapping[str, Any]:
        """Return the line's fields, if it is JSON."""
        try:
            said = json.loads(self.line)
        except ValueError:
            return {}
        return said if isinstance(said, dict) else {}

    def __str__(self) -> str:
        shown = " ".join(f"{self.said[name]}" for name in SHOWN if name in self.said)
        return f"{self.hop}: {shown or self.line.strip()}"


def lines_about(request_id: str, hops: Sequence[Hop], reached: str = "") -> list[LogLine]:
    """Return the lines with an id, in the order of the hops. Waits briefly for them to be written.

    Args:
        request_id: the id to look for.
        hops: the hops whose logs are read.
        reached: a hop that is known to have got the request: its line is waited for. Empty: any hop.
    """
    first = [hop for hop in hops if hop.name.startswith(reached)]
    end = time.monotonic() + timeouts.WRITTEN
    while not lines_with([request_id], first) and time.monotonic() < end:
        time.sleep(POLL_SECONDS)
    time.sleep(timeouts.WRITTEN_BY_ALL)  # one hop has written its line: the others have by then, too
    return lines_with([request_id], hops)


def lines_with(texts: Iterable[str], hops: Sequence[Hop]) -> list[LogLine]:
    """Return the lines of some hops' logs that contain any of these texts, in the order of the hops."""
    wanted = list(texts)
    return [LogLine(hop.name, line) for hop in hops for text in wanted for line in AccessLog([hop.log]).lines_with(text)]
