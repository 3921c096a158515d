"""The most that a run may send to a deployed target."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

import pytest

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.target import Hop, Limits, Route, Target
from mlflow_proxy_e2e.traffic import CALLS, SAVED, GivenUpError, Traffic

RATE = 40.0  # requests per second, of two processes
URL = "http://127.0.0.1:9"
TARGET = Target("theirs", (Route("external", URL),), (), frozenset(), ("bearer",))


def test_rate() -> None:
    """However much there is to send, a process takes the time that its share of the rate requires."""
    traffic = Traffic()
    traffic.limit(replace(TARGET, limits=Limits(requests_per_second=RATE)), processes=2)
    began = time.monotonic()

    for _ in range(12):
        traffic.admit()

    assert time.monotonic() - began >= 11 / (RATE / 2) - SAVED


def test_time_of_answers() -> None:
    """Waiting for its turn does not count as waiting for an answer."""
    traffic = Traffic()
    traffic.limit(replace(TARGET, limits=Limits(requests_per_second=RATE)), processes=2)
    began, began_here = time.monotonic(), traffic.clock()

    for _ in range(12):
        traffic.admit()

    assert traffic.clock() - began_here < (time.monotonic() - began) / 2
    assert traffic.delayed_until > began


@pytest.fixture
def traffic() -> Traffic:
    """Return the traffic for a target without limits."""
    traffic = Traffic()
    traffic.limit(TARGET, processes=1)
    return traffic


def unanswered(traffic: Traffic, calls: int, seconds: float = timeouts.ANSWER, route: str = URL) -> None:
    """Make some calls wait for an answer in vain."""
    for _ in range(calls):
        with suppress(TimeoutError), traffic.awaiting(route, seconds):
            raise TimeoutError


def test_giving_up(traffic: Traffic) -> None:
    """After several consecutive calls without an answer, nothing more is sent on their route, while other routes still work."""
    unanswered(traffic, CALLS)

    with pytest.raises(GivenUpError, match=rf"gave up on {URL}: 3 calls in a row had no answer within 30 s"):
        traffic.admit(URL)
    traffic.admit(f"{URL}0")


def test_giving_up_sooner(traffic: Traffic) -> None:
    """If answers are waited for less long, calls that have waited that long count."""
    traffic.limit(TARGET, 1, timeouts.SMOKE_ANSWER)
    unanswered(traffic, CALLS, timeouts.SMOKE_ANSWER)

    with pytest.raises(GivenUpError, match="within 5 s"):
        traffic.admit(URL)


def test_an_answer_in_between(traffic: Traffic) -> None:
    """Only calls since the last answer count."""
    unanswered(traffic, CALLS - 1)
    with traffic.awaiting(URL, timeouts.ANSWER):
        pass
    unanswered(traffic, CALLS - 1)

    traffic.admit(URL)


def test_attempts(traffic: Traffic) -> None:
    """Calls that do not wait for the full time do not count: an attempt to get past the gate need not be answered."""
    unanswered(traffic, CALLS, timeouts.ATTEMPT)

    traffic.admit(URL)


def test_a_stack_of_our_own(traffic: Traffic) -> None:
    """The lab's own stack is never given up: tests make its services fall silent, and come back."""
    traffic.limit(replace(TARGET, hops=(Hop("mlflow", URL, "/health", ""),)), 1)
    unanswered(traffic, CALLS)

    traffic.admit(URL)


def test_hoping_again(traffic: Traffic) -> None:
    """Routes that were given up are used again on request."""
    unanswered(traffic, CALLS)

    traffic.hope_again()

    traffic.admit(URL)
