"""What a run may send to somebody else's system, at most."""

from __future__ import annotations

import time
from dataclasses import replace

from fixtures.target import Limits, Route, Target
from fixtures.traffic import SAVED, Traffic

RATE = 40.0  # requests per second, of two processes
TARGET = Target("theirs", (Route("external", "http://127.0.0.1:9"),), (), frozenset(), ("bearer",))


def test_rate() -> None:
    """However much there is to send, a process takes the time that its share of the rate allows."""
    traffic = Traffic()
    traffic.limit(replace(TARGET, limits=Limits(requests_per_second=RATE)), processes=2)
    began = time.monotonic()

    for _ in range(12):
        traffic.admit()

    assert time.monotonic() - began >= 11 / (RATE / 2) - SAVED
