"""The MLflow client in the user's own environment, whose settings decide what is sent, and where.

All other tests ignore those settings. Here, nothing is set but what the documentation tells users to set.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from mlflow import MlflowClient

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.checks import own_client
from mlflow_proxy_e2e.clients import NOT_ON_THE_WAY, ON_THE_WAY, credentials
from mlflow_proxy_e2e.scratch import Scratch
from mlflow_proxy_e2e.target import Identity, Route

# By default, it retries for four minutes, and sends telemetry to MLflow's makers.
QUICK_AND_QUIET = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
NO_PROXY = dict.fromkeys(NOT_ON_THE_WAY, "127.0.0.1")

RunProgram = Callable[..., subprocess.CompletedProcess[str]]
Run = Callable[[str, str], Any]


@pytest.fixture
def run_program(user_environment: Mapping[str, str], pytestconfig: pytest.Config) -> RunProgram:
    """Return a function that runs the program in the user's own environment, with some variables set."""

    def run(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", own_client.__name__, *arguments]
        given = {**user_environment, **environment}
        options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": timeouts.PROGRAM}
        return subprocess.run(command, cwd=pytestconfig.rootpath, env=given, check=False, **options)

    return run


@pytest.fixture
def run_own_client(route: Route, control: Identity, run_program: RunProgram) -> Run:
    """Return a function that runs the program against the target, and returns its output."""
    documented = {"MLFLOW_TRACKING_URI": route.url, **QUICK_AND_QUIET, **credentials(control)}
    if route.proxy:
        documented |= dict.fromkeys(ON_THE_WAY, route.proxy)
    if route.ca:
        documented["MLFLOW_TRACKING_SERVER_CERT_PATH"] = route.ca

    def run(what: str, name: str) -> Any:
        done = run_program(documented, what, name)
        assert done.returncode == 0, f"The user's own client failed on {route}:\n{done.stderr}"
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture
def refusing_url() -> Iterator[str]:
    """Return a URL of this machine where connections are refused."""
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))  # bound, but not listening
        yield f"http://127.0.0.1:{unheard.getsockname()[1]}"


def test_write_and_read(run_own_client: Run, truth: MlflowClient, scratch: Scratch) -> None:
    """It creates an experiment with a run, and others see them."""
    name = scratch.experiment()

    came = run_own_client("experiment", name)

    created = truth.get_experiment_by_name(name)
    assert created
    runs = truth.search_runs([created.experiment_id])
    assert [run.data.params for run in runs] == [{"depth": "3"}]
    assert came == {"experiment_id": created.experiment_id, "params": {"depth": "3"}}


@pytest.mark.capability("registry")
def test_register_model(run_own_client: Run, truth: MlflowClient, scratch: Scratch) -> None:
    """It registers a model, and others see it."""
    name = scratch.model()

    came = run_own_client("model", name)

    registered = [(model.name, model.description) for model in truth.search_registered_models(f"name = '{name}'")]
    assert registered == [(name, "scores payments")]
    assert came == {"description": "scores payments"}


def test_nobody_answers(run_program: RunProgram, refusing_url: str, user_environment: Mapping[str, str]) -> None:
    """Refused connections are reported within a minute, unless the user's own settings say otherwise: by default it takes four."""
    quick = {name: value for name, value in QUICK_AND_QUIET.items() if name not in user_environment}

    try:
        ended = run_program({**quick, **NO_PROXY, "MLFLOW_TRACKING_URI": refusing_url}, "experiment", "nobody-will-see-this")
    except subprocess.TimeoutExpired:
        pytest.fail(f"The user's own client is still trying after {timeouts.PROGRAM:g} s where connections are refused.")

    assert ended.returncode == 1
    assert "Connection refused" in ended.stderr
