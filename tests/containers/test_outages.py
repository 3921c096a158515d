"""What becomes of calls while a part of the system is away, and that they work again, by themselves, when it is back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address

import pytest
import requests

from fixtures.clients import Rest
from fixtures.services.mlflow import AUTHENTICATED_READ
from fixtures.target import Identity, Route, Target
from tests.containers.conftest import POLL_SECONDS, RECOVERY_SECONDS, Outage

RUNS = "/api/2.0/mlflow/runs"
AT_ONCE_SECONDS = 15.0  # for an answer that nothing is waited for: 5 s to connect, and as much again on a busy machine
SILENCE_SECONDS = 90.0  # for an answer that MLflow is waited for: the reference proxy does so for 60 s
WRITERS = 4
ENOUGH = 20  # runs that are to be created, or refused, before the test goes on


@dataclass
class Load:
    """Runs being created by several writers at once, and what became of the calls."""

    caller: Rest
    experiment_id: str
    acknowledged: list[str] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def write(self) -> None:
        """Create runs, one after the other, until it is over."""
        while not self.over.is_set():
            self._create_run()

    def wait_for(self, outcomes: Sequence[object], number: int) -> None:
        """Wait until there are so many outcomes of that kind."""
        deadline = time.monotonic() + RECOVERY_SECONDS
        while len(outcomes) < number:
            assert time.monotonic() < deadline, f"{len(outcomes)} of {number} within {RECOVERY_SECONDS:g} s"
            self.over.wait(POLL_SECONDS)

    def _create_run(self) -> None:
        try:
            answer = self.caller.post(f"{RUNS}/create", json={"experiment_id": self.experiment_id}, timeout=AT_ONCE_SECONDS)
        except requests.exceptions.ChunkedEncodingError:
            return  # MLflow was killed in the middle of its answer: no proxy that passes answers on as they come can mend that
        except requests.RequestException as error:
            self.unexpected.append(type(error).__name__)
            return
        if answer.status_code == requests.codes.ok:
            self.acknowledged.append(answer.json()["run"]["info"]["run_id"])
        elif answer.status_code == requests.codes.bad_gateway and answer.json()["error_code"] == "TEMPORARILY_UNAVAILABLE":
            self.refused.append(answer.status_code)
        else:
            self.unexpected.append(f"{answer.status_code} {answer.text}")


@contextmanager
def load(route: Route, identity: Identity, experiment_id: str) -> Iterator[Load]:
    """Have runs created while the block lasts."""
    with Rest(route, identity) as caller:
        creation = Load(caller, experiment_id)
        writers = [threading.Thread(target=creation.write) for _ in range(WRITERS)]
        for writer in writers:
            writer.start()
        try:
            yield creation
        finally:
            creation.over.set()
            for writer in writers:
                writer.join()


def assert_unavailable(route: Route, identity: Identity, status: int, within: float) -> None:
    """Assert the refusal of who cannot be served now, in MLflow's JSON shape, and that it comes within so many seconds."""
    with Rest(route, identity) as caller:
        answer = caller.get(AUTHENTICATED_READ, timeout=within)  # raises what the test then fails with
    assert answer.status_code == status
    assert set(answer.json()) == {"error_code", "message"}
    assert answer.json()["error_code"] == "TEMPORARILY_UNAVAILABLE"


@pytest.fixture
def route(target: Target, route_name: str) -> Route:
    return target.route(route_name)


def test_mlflow_is_not_in_dns(outage: Outage, route: Route, platform: Identity) -> None:
    """While MLflow's name is not known the answer is 502, and it comes at once."""
    outage.disconnect("mlflow")

    for _ in range(2):  # on a connection that the proxy may have kept, and on one that it has to make
        assert_unavailable(route, platform, 502, within=AT_ONCE_SECONDS)


def test_mlflow_is_silent(outage: Outage, target: Target, platform: Identity) -> None:
    """While MLflow takes calls and says nothing the answer is 504."""
    outage.pause("mlflow")

    assert_unavailable(target.route("internal"), platform, 504, within=SILENCE_SECONDS)


def test_auth_service_is_not_in_dns(outage: Outage, route: Route, target: Target) -> None:
    """While the auth service cannot be reached everybody is kept out with 503, whatever the key."""
    outage.disconnect("auth")

    for name in ("platform", "unknown", "anonymous"):
        assert_unavailable(route, target.identity(name), 503, within=AT_ONCE_SECONDS)


def test_auth_service_is_silent(outage: Outage, route: Route, target: Target) -> None:
    """While the auth service says nothing everybody is kept out with 503, whatever the key."""
    outage.pause("auth")

    for name in ("platform", "unknown", "anonymous"):
        assert_unavailable(route, target.identity(name), 503, within=AT_ONCE_SECONDS)


def test_mlflow_comes_back_at_another_address(outage: Outage) -> None:
    """A proxy that goes by the name finds MLflow where it is now, without being restarted."""
    before, edge = outage.address("mlflow"), outage.address("edge")
    # The lowest free address is given first, and what was broken last is mended first: each is given what was the other's.
    for service in ("mlflow", "edge") if IPv4Address(before) < IPv4Address(edge) else ("edge", "mlflow"):
        outage.kill(service)
        outage.disconnect(service)

    outage.end()

    assert outage.address("mlflow") != before
    outage.wait_until_over()


def test_nothing_acknowledged_is_lost(outage: Outage, target: Target, platform: Identity) -> None:
    """MLflow is killed and started again while runs are created: each call is answered or refused as the contract says, and
    every run whose creation was answered is there."""
    route = target.route("external")
    with load(route, platform, experiment_id="0") as runs:
        runs.wait_for(runs.acknowledged, ENOUGH)
        outage.kill("mlflow")
        runs.wait_for(runs.refused, ENOUGH)
        outage.end()
        outage.wait_until_over()
        runs.wait_for(runs.acknowledged, len(runs.acknowledged) + ENOUGH)

    assert runs.unexpected == []
    assert target.direct
    with Rest(target.direct) as mlflow_itself:
        lost = [run for run in runs.acknowledged if mlflow_itself.get(f"{RUNS}/get?run_id={run}").status_code != 200]
    assert lost == []
