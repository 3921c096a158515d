"""User errors and missing prerequisites lead to one message, an exit code of their own, and nothing left behind."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from mlflow_proxy_e2e import errors
from tests.harness.conftest import ONE_TEST, StartRun


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            ["--stack", "cloud"],
            errors.BadOptionError,
            "--stack cloud: unknown stack. Choose one of: process, container, deployed.",
        ),
        (["--backend", "postgres"], errors.BadOptionError, "--backend: this is for containers only. Add --stack container."),
        (
            ["--stack", "container", "--backend", "mysql"],
            errors.BadOptionError,
            "--backend mysql: unknown backend. Choose one of: sqlite, postgres.",
        ),
        (
            ["--stack", "container", "--mlflow-replicas", "2"],
            errors.BadOptionError,
            "--mlflow-replicas 2: servers can share PostgreSQL, not SQLite. Add --backend postgres.",
        ),
        (
            ["--stack", "container", "--mlflow-replicas", "none"],
            errors.BadOptionError,
            "--mlflow-replicas none: expected a number from 1 to 9.",
        ),
        (
            ["--mlflow-server-version", "newest"],
            errors.BadOptionError,
            "--mlflow-server-version newest: expected a version such as 3.17.2.",
        ),
        (
            ["--stack", "container", "--mlflow-server-version", "3.9", "--mlflow-image", "mlflow"],
            errors.BadOptionError,
            "--mlflow-server-version does not go with --mlflow-image: leave out one of them.",
        ),
        (
            ["--stack", "container", "--proxy-image", "nginx", "--proxy-config", "p.toml", "--fault", "strip-none"],
            errors.BadOptionError,
            "--fault strip-none changes the reference proxy: leave out --proxy-image.",
        ),
        (["--stack", "container", "--proxy-image", "nginx"], errors.BadOptionError, "Add --proxy-config FILE."),
        (
            ["--stack", "container", "--proxy-image", "nginx", "--proxy-config", "proxy.toml"],
            errors.BadFileError,
            "proxy.toml: No such file or directory.",
        ),
        (
            ["--sweep"],
            errors.BadOptionError,
            "--sweep needs --target=FILE, the profile of the target: the suite's own stacks leave nothing.",
        ),
        (["--stack", "deployed"], errors.BadOptionError, "--stack deployed needs --target=FILE, the profile of the target."),
        (["--target=staging.toml"], errors.BadProfileError, "staging.toml: No such file or directory. --target needs the profile"),
        (
            ["--target=staging.toml", "--fault", "strip-none"],
            errors.BadOptionError,
            "--fault with --target: only the suite's own stacks can be changed.",
        ),
        (
            ["--route", "side"],
            errors.BadOptionError,
            "--route side: the target has none with that name. It has: external, internal.",
        ),
        (["--identity", "root"], errors.BadOptionError, "--identity root: the target has none with that name. It has: anonymous,"),
        (["--fault", "gremlin"], errors.BadOptionError, "--fault gremlin: unknown fault."),
        (["--port", "edge=http"], errors.BadOptionError, "--port edge=http: expected SERVICE=PORT"),
        (
            ["--port", "cache=80"],
            errors.BadOptionError,
            "--port cache=80: expected SERVICE=PORT, with one of mlflow, auth, proxy, edge",
        ),
        (["--ready-timeout", "soon"], errors.BadOptionError, "--ready-timeout soon: expected a number of seconds above 0."),
        (["--diagnosis-time", "-1"], errors.BadOptionError, "--diagnosis-time -1: expected a number of seconds above 0."),
        (["--ready-timeout", "0.1"], errors.ServiceNotReadyError, "was not ready within 0.1 s"),
        (["--fault", "database-missing"], errors.ServiceDiedError, "The service 'mlflow' ended at start with exit code 1."),
    ],
    ids=lambda value: "-".join(value).strip("-") if isinstance(value, list) else "",
)
def test_option(start_run: StartRun, arguments: list[str], error: type[errors.SuiteError], message: str) -> None:
    """An invalid value, or a service that does not start."""
    run = start_run(*ONE_TEST, *arguments)

    assert run.wait() == error.exit_code, run.output
    assert message in run.output
    assert "Traceback" not in run.output.partition("Its last lines:")[0]
    run.assert_nothing_left(seconds=0)


def test_last_lines_of_a_service_that_died(start_run: StartRun) -> None:
    """The message about a dead service has its last log lines."""
    run = start_run(*ONE_TEST, "--fault", "database-missing")

    run.wait()

    assert "Error initializing backend store" in run.output.partition("Its last lines:")[2]


def test_busy_port(start_run: StartRun) -> None:
    """A fixed port that is in use."""
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        port = somebody.getsockname()[1]
        run = start_run(*ONE_TEST, "--port", f"edge={port}")

        assert run.wait() == errors.PortBusyError.exit_code, run.output
    assert f"Port {port}, requested with --port edge={port}, is in use" in run.output
    run.assert_nothing_left(seconds=0)


def test_no_envoy(start_run: StartRun, tmp_path: Path) -> None:
    """A platform for which there is no Envoy."""
    (tmp_path / "envoy.py").write_text("raise ImportError")

    run = start_run(*ONE_TEST, PYTHONPATH=str(tmp_path), PATH="/usr/bin:/bin")

    assert run.wait() == errors.EnvoyMissingError.exit_code, run.output
    assert "No Envoy for this platform" in run.output
    run.assert_nothing_left(seconds=0)


def test_old_mlflow(start_run: StartRun) -> None:
    """An MLflow older than the suite's own stacks can serve."""
    run = start_run(*ONE_TEST, "--mlflow-server-version", "2.21.3")

    assert run.wait() == errors.MlflowTooOldError.exit_code, run.output
    assert "MLflow 2.21.3 is too old: the suite's own stacks serve 2.22 or newer." in run.output
    run.assert_nothing_left(seconds=0)


def test_mlflow_that_cannot_be_installed(start_run: StartRun, tmp_path: Path) -> None:
    """A version that does not exist, or no access to a package index."""
    run = start_run(*ONE_TEST, "--mlflow-server-version", "3.4.0", UV_OFFLINE="1", UV_CACHE_DIR=str(tmp_path / "cache"))

    assert run.wait() == errors.MlflowUnavailableError.exit_code, run.output
    assert "MLflow 3.4.0, requested with --mlflow-server-version, cannot be installed: uv says:" in run.output
    run.assert_nothing_left(seconds=0)


def test_no_uv(start_run: StartRun, tmp_path: Path) -> None:
    """A version other than the installed one, and no uv to install it."""
    (tmp_path / "uv.py").write_text("def find_uv_bin(): raise FileNotFoundError")

    run = start_run(*ONE_TEST, "--mlflow-server-version", "3.4.0", PYTHONPATH=str(tmp_path))

    assert run.wait() == errors.MlflowUnavailableError.exit_code, run.output
    assert "this needs the program uv. Run: pip install uv" in run.output
    run.assert_nothing_left(seconds=0)


def test_temp_folder_that_cannot_be_written(start_run: StartRun) -> None:
    """A folder for temporary files in which nobody can write, not even root."""
    run = start_run(*ONE_TEST, TMPDIR="/proc")

    assert run.wait() == errors.TempFolderUnusableError.exit_code, run.output
    assert "The run cannot write to the folder for temporary files, /proc" in run.output


def test_exit_codes_are_distinct() -> None:
    """Each kind of error has an exit code of its own, which is none of pytest's."""
    kinds = errors.SuiteError.__subclasses__()
    codes = {kind.exit_code for kind in kinds}

    assert len(codes) == len(kinds)
    assert codes.isdisjoint(set(pytest.ExitCode))
