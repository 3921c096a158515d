"""The MLflow client of whoever runs the suite, in their own environment: what is set there has a say in what is sent, and where to.

All other tests keep that out. Here nothing is set but what the documentation tells users to set.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from fixtures import timeouts
from fixtures.clients import signed_in
from fixtures.scratch import Scratch
from fixtures.target import Identity, Route
from tests.e2e import own_client
from tests.e2e.conftest import Caller

# By default it tries again for four minutes, and reports on its users to MLflow's makers.
QUICK_AND_QUIET = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}

Run = Callable[[str, str], Any]


@pytest.fixture
def run_own_client(route: Route, control: Identity, user_environment: Mapping[str, str], pytestconfig: pytest.Config) -> Run:
    """Return what runs the program, and returns what it printed."""
    documented = {"MLFLOW_TRACKING_URI": route.url, **QUICK_AND_QUIET}
    if control.key:
        documented["MLFLOW_TRACKING_TOKEN"] = control.key.reveal()
    if route.ca:
        documented["MLFLOW_TRACKING_SERVER_CERT_PATH"] = route.ca

    def run(what: str, name: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", own_client.__name__, what, name],
            cwd=pytestconfig.rootpath,
            env={**user_environment, **documented},
            capture_output=True,
            text=True,
            timeout=timeouts.PROGRAM,
        )
        assert done.returncode == 0, f"The user's own client failed on {route}:\n{done.stderr}"
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_write_and_read(run_own_client: Run, witness: Caller, scratch: Scratch) -> None:
    """It creates an experiment with a run, which are where everybody else finds them."""
    name = scratch.experiment()

    came = run_own_client("experiment", name)

    with signed_in(*witness) as mlflow_itself:
        created = mlflow_itself.get_experiment_by_name(name)
        assert created
        runs = mlflow_itself.search_runs([created.experiment_id])
    assert [run.data.params for run in runs] == [{"depth": "3"}]
    assert came == {"experiment_id": created.experiment_id, "params": {"depth": "3"}}


@pytest.mark.capability("registry")
def test_register_model(run_own_client: Run, witness: Caller, scratch: Scratch) -> None:
    """It registers a model, which is where everybody else finds it."""
    name = scratch.model()

    came = run_own_client("model", name)

    with signed_in(*witness) as mlflow_itself:
        registered = [(model.name, model.description) for model in mlflow_itself.search_registered_models(f"name = '{name}'")]
    assert registered == [(name, "scores payments")]
    assert came == {"description": "scores payments"}
