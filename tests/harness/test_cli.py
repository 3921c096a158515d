"""The command ``mlflow-proxy-e2e``: it finds the tests from any folder, passes exit codes on, and reports errors in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlflow_proxy_e2e import cli
from mlflow_proxy_e2e.errors import BadProfileError, SuiteMissingError
from tests.harness.conftest import ROOT

PROFILE = """
name = "theirs"
carriers = ["bearer"]
capabilities = []
[routes.external]
url = "http://127.0.0.1:1"
[identities.anybody]
denied = "unauthenticated"
[identities.platform]
key = "env:E2E_KEY_PLATFORM"
scopes = ["read", "write"]
"""
KEY = "hk_test_platform0123"


def command(folder: Path, *arguments: str, module: str = "mlflow_proxy_e2e") -> subprocess.CompletedProcess[str]:
    """Return the completed command, run outside the clone."""
    environment = {"PATH": "/usr/bin:/bin", "E2E_KEY_PLATFORM": KEY, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """Return the profile of a target, in a folder of its own."""
    file = tmp_path / "theirs.toml"
    file.write_text(PROFILE)
    return file


@pytest.mark.parametrize("name", ["smoke", "e2e"])
def test_tests_are_found_from_any_folder(name: str, profile: Path) -> None:
    """They have the same ids as in a clone, and the profile is looked up in the current folder."""
    ended = command(profile.parent, name, "--target", profile.name, "--collect-only", "-q", "-n", "0")

    assert ended.returncode == pytest.ExitCode.OK, ended.stdout + ended.stderr
    assert "\ntests/e2e/test_smoke.py::test_create_experiment[external-platform]\n" in f"\n{ended.stdout}"
    assert ("\ntests/e2e/test_runs.py::" in ended.stdout) == (name == "e2e")


def test_id_of_a_test(profile: Path) -> None:
    """A test named by its id is the only one that runs."""
    test = "tests/e2e/test_smoke.py::test_create_experiment[external-platform]"

    ended = command(profile.parent, "e2e", f"--target={profile}", "--collect-only", "-q", "-n0", test)

    assert [line for line in ended.stdout.splitlines() if "::" in line] == [test]


def test_exit_code_of_pytest(profile: Path) -> None:
    """The command exits with pytest's exit code."""
    ended = command(profile.parent, "smoke", f"--target={profile}", "--collect-only", "-n0", "-k", "no_such_test")

    assert ended.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, ended.stdout + ended.stderr


@pytest.mark.parametrize("name", ["check", "smoke", "e2e", "sweep"])
def test_profile_that_is_missing(name: str, tmp_path: Path) -> None:
    """Each command reports a missing profile in one message, and exits with its code."""
    ended = command(tmp_path, name, "--target", "missing.toml")

    assert ended.returncode == BadProfileError.exit_code, ended.stdout + ended.stderr
    assert "missing.toml: No such file or directory. --target needs the profile" in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr


def test_installation_without_the_suite(profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what tests need, the command says what to install."""
    monkeypatch.setattr(cli, "_is_installed", {"mlflow-skinny", "mlflow"}.__contains__)

    ended = CliRunner().invoke(cli.main, ["smoke", f"--target={profile}"])

    assert ended.exit_code == SuiteMissingError.exit_code
    assert ended.stderr.endswith("pip install 'mlflow-proxy-e2e[suite]'\n")
    assert "pytest-xdist" in ended.stderr


@pytest.mark.parametrize("name", ["check", "smoke", "e2e", "sweep", "init"])
def test_help_names_exit_codes(name: str) -> None:
    """The help of each command has its exit codes."""
    ended = CliRunner().invoke(cli.main, [name, "--help"])

    assert ended.exit_code == 0
    assert "Exit codes: 0 " in ended.stdout


@pytest.mark.parametrize(
    ("old", "new", "arguments"),
    [
        ("fixtures.diagnosis", "mlflow-proxy-e2e check", ["--help"]),
        ("fixtures.starter", "mlflow-proxy-e2e init", ["--help"]),
        ("fixtures.timeouts", "python -m mlflow_proxy_e2e.timeouts", []),
    ],
)
def test_old_commands(old: str, new: str, arguments: list[str], tmp_path: Path) -> None:
    """The previous release's commands print their new names, and work as before."""
    ended = command(tmp_path, *arguments, module=old)

    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == f"python -m {old} is now {new}\n"
    assert ended.stdout.startswith(("Usage: mlflow-proxy-e2e", "# Timeouts"))
