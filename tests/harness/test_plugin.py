"""The plugin takes part in runs of this suite and in no others, wherever the package is installed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mlflow_proxy_e2e import pytest_entry
from mlflow_proxy_e2e.errors import BadOptionError

PACKAGE = Path(pytest_entry.__file__).parent
# Not -X importtime, which does not show what importlib imports, such as entry points.
SHOWS_MODULES = """
import sys

def pytest_unconfigure():
    print(*sorted(name for name in sys.modules if name.startswith(("mlflow", "fixtures"))))
"""
OTHER_PLUGIN = """
def pytest_addoption(parser):
    parser.addoption("--target", default="none")
"""
OTHER_TEST = """
def test_target(pytestconfig):
    assert pytestconfig.getoption("--target") == "moon"
"""


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """Return a folder with another project's test."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_other.py").write_text("def test_other():\n    pass\n")
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Return the completed run of pytest in a folder."""
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_imports_in_a_foreign_run(foreign: Path) -> None:
    """Only the module that looks at the arguments, and its package, are imported there."""
    (foreign / "conftest.py").write_text(SHOWS_MODULES)

    ended = run(foreign)

    assert ended.returncode == pytest.ExitCode.OK, ended.stdout
    assert ended.stdout.splitlines()[-1] == "mlflow_proxy_e2e mlflow_proxy_e2e.pytest_entry"


def test_options_in_a_foreign_run(foreign: Path) -> None:
    """No option of the suite is declared there."""
    ended = run(foreign, "--help")

    assert ended.returncode == pytest.ExitCode.OK, ended.stderr
    assert not re.search(r"^ *--(target|sweep|route|identity|report-|history|stack|fault)", ended.stdout, re.MULTILINE)


def test_another_plugin_with_the_same_option(foreign: Path) -> None:
    """Another plugin can have an option of the same name."""
    (foreign / "other_plugin.py").write_text(OTHER_PLUGIN)
    (foreign / "test_other.py").write_text(OTHER_TEST)

    ended = run(foreign, "-p", "other_plugin", "--target=moon")

    assert ended.returncode == pytest.ExitCode.OK, ended.stdout + ended.stderr


@pytest.mark.parametrize("arguments", [("--pyargs", "mlflow_proxy_e2e"), (str(PACKAGE / "suite"),)], ids=["by-module", "by-path"])
def test_tests_of_the_suite_that_are_asked_for(foreign: Path, arguments: tuple[str, ...]) -> None:
    """The plugin is active where tests of the suite are requested, and needs a target."""
    ended = run(foreign, *arguments, "-p", "no:cacheprovider")

    assert ended.returncode == BadOptionError.exit_code, ended.stdout + ended.stderr
    assert "There is nothing to run against. Give the profile of a deployed target: --target=FILE." in ended.stderr + ended.stdout


def test_plugin_is_registered_once() -> None:
    """In a clone, both the conftest and the entry point could register it, and exactly one of them does."""
    root = PACKAGE.parent
    ended = run(root, "--trace-config", "--collect-only", "-q", "tests/e2e", str(PACKAGE / "suite"), "-m", "smoke")

    assert ended.returncode == pytest.ExitCode.OK, ended.stdout + ended.stderr
    registered = re.findall(r"PLUGIN registered: <module 'mlflow_proxy_e2e\.plugin' from", ended.stdout + ended.stderr)
    assert len(registered) == 1
