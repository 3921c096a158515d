"""Calls, and what they have written, when MLflow dies, comes back or is slow."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from fixtures.stack.owned import OwnedStack
from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.clients import MLFLOW_DEFAULTS, signed_in
from mlflow_proxy_e2e.rest import Rest
from mlflow_proxy_e2e.target import Identity, Route, Target
from mlflow_proxy_e2e.waiting import wait_until
from tests.outages.outage import RUNS, Outage, assert_unavailable, create_run, load, lost

ENOUGH = 20  # calls that must succeed, or be refused, before the test goes on
METRIC = "loss"
TAG = "call"
SLOW_SECONDS = 3  # that MLflow waits for its database: not for ever, but longer than a hop that retries early
LOCK = f"""
import sqlite3, time
database = sqlite3.connect("mlflow.db", isolation_level=None)
database.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
time.sleep({SLOW_SECONDS})
"""
CREATES_RUN = f"POST /mlflow{RUNS}/create "  # as the auth service logs what it is asked about


def test_killed(outage: Outage, target: Target, platform: Identity) -> None:
    """While MLflow is down, the answer is 502 on every route, at once."""
    outage.kill("mlflow")

    for route in target.routes:
        for _ in range(2):  # on a connection that the proxy may have kept, and on a new one
            assert_unavailable(route, platform, 502)


def test_nothing_acknowledged_is_lost(outage: Outage, target: Target, platform: Identity, direct: Route) -> None:
    """MLflow is killed and restarted while runs are created: each call is answered or refused as the contract says, and
    every acknowledged run exists."""
    acknowledged: list[str] = []
    with Rest(target.route("external"), platform) as caller, load(lambda: create_run(caller, acknowledged)) as runs:
        runs.wait_for("created", ENOUGH)
        outage.kill("mlflow")
        runs.wait_for("refused", ENOUGH)
        outage.end()
        runs.wait_for("created", ENOUGH)

    assert set(runs.outcomes) - {"cut off"} == {"created", "refused"}
    assert lost(acknowledged, direct) == []


def test_restart_in_mid_run(outage: Outage, target: Target, platform: Identity, direct: Route) -> None:
    """A training run whose MLflow is killed and restarted continues by itself, with the default settings of MLflow's client,
    and has every step."""
    over, steps = threading.Event(), 0
    with signed_in(target.route("external"), platform, patience=MLFLOW_DEFAULTS) as client:
        run_id = client.create_run("0").info.run_id

        def train() -> None:
            nonlocal steps
            while not over.is_set():
                client.log_metric(run_id, METRIC, steps, step=steps)
                steps += 1

        def has_logged(number: int) -> None:
            wait_until(lambda: steps >= number or training.done(), timeouts.CLIENT_RECOVERY, f"step {number} is to be logged")

        with ThreadPoolExecutor(1) as pool:
            training = pool.submit(train)
            try:
                has_logged(ENOUGH)
                outage.kill("mlflow")
                outage.end()
                has_logged(steps + ENOUGH)
            finally:
                over.set()
            training.result()  # raises the client's exception

    with signed_in(direct) as mlflow_itself:
        assert sorted(metric.step for metric in mlflow_itself.get_metric_history(run_id, METRIC)) == list(range(steps))


@pytest.mark.usefixtures("outage")
def test_slow_write_is_made_once(stack: OwnedStack, target: Target, platform: Identity, direct: Route) -> None:
    """A run that MLflow takes seconds to create exists once: no hop has lost patience and sent the call again."""
    if "postgres" in stack.running:
        pytest.skip("this has MLflow wait for SQLite: run it without --backend")
    names = {route: uuid.uuid4().hex for route in target.routes}

    with stack.running["mlflow"].executing(LOCK), ThreadPoolExecutor(len(names)) as pool:
        answers = list(pool.map(lambda route: create_tagged_run(route, platform, names[route]), names))

    assert [answer.status_code for answer in answers] == [200] * len(names)
    assert min(answer.elapsed.total_seconds() for answer in answers) > SLOW_SECONDS / 2
    assert [runs_of(name, direct) for name in names.values()] == [1] * len(names)


def test_answer_lost_in_mid_flight(outage: Outage, stack: OwnedStack, target: Target, platform: Identity, direct: Route) -> None:
    """When the edge dies with MLflow's answer, MLflow's client with its default settings retries and gets a run: the
    second one, as MLflow has kept the first. There are as many runs as calls of the client have reached the proxy."""
    name = uuid.uuid4().hex

    def asked() -> int:
        return stack.running["auth"].log().count(CREATES_RUN)

    with signed_in(target.route("external"), platform, patience=MLFLOW_DEFAULTS) as client, ThreadPoolExecutor(1) as pool:
        asked_before = asked()
        outage.pause("mlflow")
        creation = pool.submit(client.create_run, "0", tags={TAG: name})
        wait_until(lambda: asked() > asked_before, timeouts.AT_ONCE, "the call is to be on its way to MLflow")
        outage.pause("edge")
        outage.mend("mlflow")
        wait_until(lambda: runs_of(name, direct) == 1, timeouts.AT_ONCE, "MLflow is to make the run")
        outage.kill("edge")
        outage.mend("edge")
        run_id = creation.result().info.run_id

    assert asked() - asked_before == runs_of(name, direct) == 2
    assert lost([run_id], direct) == []


def create_tagged_run(route: Route, identity: Identity, name: str) -> requests.Response:
    """Create a run that can be searched for."""
    with Rest(route, identity) as caller:
        return caller.post(f"{RUNS}/create", json={"experiment_id": "0", "tags": [{"key": TAG, "value": name}]})


def runs_of(name: str, direct: Route) -> int:
    """Return the number of runs with that name in MLflow."""
    with signed_in(direct) as mlflow_itself:
        return len(mlflow_itself.search_runs(["0"], f"tags.{TAG} = '{name}'"))
