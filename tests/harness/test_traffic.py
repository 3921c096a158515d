"""What a run may send to somebody else's system, at most."""

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
    """However much there is to send, a process takes the time that its share of the rate allows."""
    traffic = Traffic()
    traffic.limit(replace(TARGET, limits=Limits(requests_per_second=RATE)), processes=2)
    began = time.monotonic()

    for _ in range(12):
        traffic.admit()

    assert time.monotonic() - began >= 11 / (RATE / 2) - SAVED


def test_time_of_answers() -> None:
    """What waits for its turn does not wait for an answer."""
    traffic = Traffic()
    traffic.limit(replace(TARGET, limits=Limits(requests_per_second=RATE)), processes=2)
    began, began_here = time.monotonic(), traffic.clock()

    for _ in range(12):
        traffic.admit()

    assert traffic.clock() - began_here < (time.monotonic() - began) / 2
    assert traffic.delayed_until > began


@pytest.fixture
def traffic() -> Traffic:
    """Return what may be sent to a target that says nothing of limits."""
    traffic = Traffic()
    traffic.limit(TARGET, processes=1)
    return traffic


def unanswered(traffic: Traffic, calls: int, seconds: float = timeouts.ANSWER, route: str = URL) -> None:
    """Have some calls wait for an answer in vain."""
    for _ in range(calls):
        with suppress(TimeoutError), traffic.awaiting(route, seconds):
            raise TimeoutError


def test_giving_up(traffic: Traffic) -> None:
    """After some calls in a row that had no answer, no more is sent on their route, and on others it is."""
    unanswered(traffic, CALLS)

    with pytest.raises(GivenUpError, match=rf"gave up on {URL}: 3 calls in a row had no answer within 30 s"):
        traffic.admit(URL)
    traffic.admit(f"{URL}0")


def test_giving_up_sooner(traffic: Traffic) -> None:
    """Where answers are waited for less long, calls that have waited so long count."""
    traffic.limit(TARGET, 1, timeouts.SMOKE_ANSWER)
    unanswered(traffic, CALLS, timeouts.SMOKE_ANSWER)

    with pytest.raises(GivenUpError, match="within 5 s"):
        traffic.admit(URL)


def test_an_answer_in_between(traffic: Traffic) -> None:
    """Calls that had no answer are counted from the last one that had."""
    unanswered(traffic, CALLS - 1)
    with traffic.awaiting(URL, timeouts.ANSWER):
        pass
    unanswered(traffic, CALLS - 1)

    traffic.admit(URL)


def test_attempts(traffic: Traffic) -> None:
    """What is not waited for as long as an answer may take says nothing of its route: who gets past no gate need not be told so."""
    unanswered(traffic, CALLS, timeouts.ATTEMPT)

    traffic.admit(URL)


def test_a_stack_of_our_own(traffic: Traffic) -> None:
    """A stack of our own is never given up: tests have its services fall silent, and come back."""
    traffic.limit(replace(TARGET, hops=(Hop("mlflow", URL, "/health", ""),)), 1)
    unanswered(traffic, CALLS)

    traffic.admit(URL)


def test_hoping_again(traffic: Traffic) -> None:
    """What was given up is asked again where somebody says so."""
    unanswered(traffic, CALLS)

    traffic.hope_again()

    traffic.admit(URL)
