"""Outages of a stack, and what happens to calls in the meantime."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import requests

from fixtures.services.mlflow import AUTHENTICATED_READ
from fixtures.stack.owned import OwnedStack
from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.rest import Rest
from mlflow_proxy_e2e.target import Identity, Route, Target
from mlflow_proxy_e2e.waiting import POLL_SECONDS, wait_until

RUNS = "/api/2.0/mlflow/runs"
WRITERS = 4


class Outage:
    """Outages of the stack. Whatever a test breaks is repaired at its end."""

    def __init__(self, stack: OwnedStack, target: Target) -> None:
        self._stack, self._target = stack, target
        self._began = time.monotonic()
        self._mend: dict[tuple[str, str], Callable[[], None]] = {}  # by service, and by what is broken

    def pause(self, service: str) -> None:
        """Freeze a service: its connections stay open, and nothing is answered."""
        running = self._stack.running[service]
        running.pause()
        self._breaks(service, "process", running.resume)

    def kill(self, service: str) -> None:
        """Kill a service, as running out of memory would."""
        running = self._stack.running[service]
        running.kill()
        self._breaks(service, "process", running.start_again)  # also if it was paused before

    def last_until(self, seconds: float) -> None:
        """Return when the outage has lasted for so many seconds: the only thing here that takes its time."""
        time.sleep(max(0.0, self._began + seconds - time.monotonic()))

    def mend(self, service: str) -> None:
        """Let a service continue, or start it again."""
        for broken in [broken for broken in reversed(self._mend) if broken[0] == service]:
            self._mend.pop(broken)()

    def end(self) -> None:
        """Repair everything that is broken, in reverse order."""
        while self._mend:
            self._mend.popitem()[1]()

    def wait_until_over(self) -> None:
        """Wait until calls succeed on every route, each on a fresh connection."""
        for route in self._target.routes:
            wait_until(partial(self._works, route), timeouts.RECOVERY, f"{route} is to work again")

    def _works(self, route: Route) -> bool:
        return outcome(route, self._target.identity("platform")) == "200"

    def _breaks(self, service: str, what: str, mend: Callable[[], None]) -> None:
        self._began = time.monotonic()
        self._mend[service, what] = mend


def outcome(route: Route, identity: Identity) -> str:
    """Return the status of the answer to a read, or the name of the error if there is none."""
    with Rest(route, identity) as caller:
        try:
            return str(caller.get(AUTHENTICATED_READ).status_code)
        except requests.RequestException as error:
            return type(error).__name__


def assert_unavailable(route: Route, identity: Identity, status: int, *, within: float = timeouts.AT_ONCE) -> float:
    """Assert the refusal of a call that cannot be served now, in MLflow's JSON format, within so many seconds.

    Return how many seconds it took.
    """
    with Rest(route, identity) as caller:
        answer = caller.get(AUTHENTICATED_READ, timeout=within)  # raises the test's failure
    assert answer.status_code == status
    assert set(answer.json()) == {"error_code", "message"}
    assert answer.json()["error_code"] == "TEMPORARILY_UNAVAILABLE"
    return answer.elapsed.total_seconds()


@dataclass
class Load:
    """Concurrent calls by several callers, and their outcomes, until it is over."""

    call: Callable[[], str]
    outcomes: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def wait_for(self, what: str, number: int) -> None:
        """Wait until that many more calls have had this outcome."""
        enough = self.outcomes.count(what) + number
        wait_until(lambda: self.outcomes.count(what) >= enough, timeouts.RECOVERY, f"{number} times {what} of {set(self.outcomes)}")

    def make_calls(self) -> None:
        """Make calls, one after the other, until it is over."""
        while not self.over.wait(POLL_SECONDS):  # an overloaded service needs time to come back
            self.outcomes.append(self.call())


@contextmanager
def load(call: Callable[[], str], callers: int = WRITERS) -> Iterator[Load]:
    """Make calls while the block lasts."""
    calls = Load(call)
    threads = [threading.Thread(target=calls.make_calls) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield calls
    finally:
        calls.over.set()
        for thread in threads:
            thread.join()


def create_run(caller: Rest, acknowledged: list[str]) -> str:
    """Create a run, and return the outcome. The id is added to the acknowledged ones if it was returned."""
    try:
        answer = caller.post(f"{RUNS}/create", json={"experiment_id": "0"}, timeout=timeouts.AT_ONCE)
    except requests.exceptions.ChunkedEncodingError:
        return "cut off"  # MLflow died in the middle of its answer: a proxy that streams answers cannot prevent that
    except requests.RequestException as error:
        return type(error).__name__
    if answer.status_code == requests.codes.ok:
        acknowledged.append(answer.json()["run"]["info"]["run_id"])
        return "created"
    if answer.status_code == requests.codes.bad_gateway and answer.json()["error_code"] == "TEMPORARILY_UNAVAILABLE":
        return "refused"
    return f"{answer.status_code} {answer.text}"


def lost(acknowledged: Sequence[str], direct: Route) -> list[str]:
    """Return the runs that MLflow does not have."""
    with Rest(direct) as mlflow_itself:
        return [run for run in acknowledged if mlflow_itself.get(f"{RUNS}/get?run_id={run}").status_code != requests.codes.ok]
