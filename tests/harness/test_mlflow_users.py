"""MLflow with its own users, and no proxy in front of it: its published profile is true."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from fixtures.services import Address
from fixtures.stack.ports import Ports
from fixtures.stack.reaper import ROOT
from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.reach import READ
from tests.harness.conftest import StartRun, wait_until

SECONDS = 900.0  # for a run: MLflow deliberately hashes passwords slowly, on every call
PROFILE = ROOT / "targets" / "mlflow-users.toml"
SETTINGS = """
[mlflow]
default_permission = READ
database_uri = sqlite:///users.db
admin_username = admin
admin_password = {password}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""


@pytest.fixture
def password() -> str:
    return secrets.token_urlsafe(24)


@pytest.fixture
def address() -> Iterator[Address]:
    """Return an address that stays free."""
    ports = Ports()
    yield ports.take("mlflow")
    ports.release()


@pytest.fixture
def url(address: Address, tmp_path: Path, password: str) -> Iterator[str]:
    """Return the URL of such an MLflow."""
    (tmp_path / "users.ini").write_text(SETTINGS.format(password=password))
    listening = ("--host", address.host, "--port", str(address.port), "--workers", "1")
    given = {
        "MLFLOW_AUTH_CONFIG_PATH": "users.ini",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_urlsafe(24),
        # The job runner is eight more processes, which take long to start and to end.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", *listening],
            cwd=tmp_path,
            env=os.environ | given,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: server.poll() is not None or _answers(f"http://{address}{READ.path}", password), timeouts.READY)
        assert server.poll() is None, (tmp_path / "log").read_text()
        yield f"http://{address}"
    finally:
        server.terminate()
        server.wait(timeouts.GONE)


def _answers(url: str, password: str) -> bool:
    """Tell whether the administrator gets an answer: the first to sign in waits longer than all others."""
    try:
        return requests.get(url, auth=("admin", password), timeout=timeouts.ATTEMPT).ok
    except requests.RequestException:
        return False


@pytest.mark.parametrize("asked_for", ["smoke", pytest.param("e2e", marks=pytest.mark.nightly)])
def test_by_the_published_profile(asked_for: str, url: str, password: str, start_run: StartRun, tmp_path: Path) -> None:
    """Its administrator can do everything that it promises, and strangers nothing."""
    file = tmp_path / "users.toml"
    said = PROFILE.read_text()
    assert "https://mlflow.example.com" in said
    file.write_text(said.replace("https://mlflow.example.com", url) + "[limits]\nrequests_per_second = 1000\n")

    run = start_run(
        *("-m", asked_for, f"--target={file}", "-n", "2"),
        XDG_STATE_HOME=str(tmp_path / "state"),
        E2E_PASSWORD_ADMIN=password,
        E2E_PASSWORD_STRANGER=secrets.token_urlsafe(24),
    )

    assert run.process.wait(SECONDS) == pytest.ExitCode.OK, run.output
    assert " passed" in run.output
