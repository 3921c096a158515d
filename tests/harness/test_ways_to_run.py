"""The documentation is true: every command and every file that it names exists."""

from __future__ import annotations

import configparser
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.harness.conftest import ROOT, StartRun

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.md")])
LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)(?:#([^)\s]*))?\)")  # to one of our files, and to a heading in it
TOX = re.compile(r"tox(?: [^\n`]*?)? -e ([\w,-]+)")


def _name(file: Path) -> str:
    return str(file.relative_to(ROOT))


@pytest.fixture(scope="module")
def tox() -> configparser.ConfigParser:
    """Return tox's configuration."""
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini")
    return tox


@pytest.fixture(scope="module")
def environments(tox: configparser.ConfigParser) -> set[str]:
    """Return the names of tox's environments."""
    return {section.removeprefix("testenv:") for section in tox.sections()}


@pytest.mark.parametrize("file", [*WORKFLOWS, *DOCUMENTS], ids=_name)
def test_tox_environments_that_are_named(file: Path, environments: set[str]) -> None:
    """Every tox environment that is mentioned exists."""
    named = {name for names in TOX.findall(file.read_text()) for name in names.split(",")}

    assert named <= environments


@pytest.mark.parametrize("file", DOCUMENTS, ids=_name)
def test_links(file: Path) -> None:
    """Every link within the project leads to an existing file and heading."""
    links = [((file.parent / path).resolve() if path else file, heading) for path, heading in LINK.findall(file.read_text())]

    assert [str(to) for to, _ in links if not to.exists()] == []
    assert [heading for to, heading in links if heading and heading not in _headings(to)] == []


@pytest.mark.parametrize("file", WORKFLOWS, ids=_name)
def test_environments_of_a_matrix(file: Path, environments: set[str]) -> None:
    """So does every environment in a workflow's matrix."""
    matrices = [job.get("strategy", {}).get("matrix", {}) for job in _jobs(file)]

    assert {name for matrix in matrices for name in matrix.get("environment", ())} <= environments


def test_every_environment_has_what_runs_look_for(tox: configparser.ConfigParser) -> None:
    """Keys, the journal's location and GitHub's files reach every environment, and no environment's own list omits them."""
    lists = {name: tox[name]["pass_env"].split() for name in tox.sections() if tox.has_option(name, "pass_env")}

    assert {"E2E_*", "GITHUB_*", "XDG_STATE_HOME"} <= set(lists.pop("testenv"))
    assert [name for name, passed in lists.items() if "{[testenv]pass_env}" not in passed] == []


def test_runs_that_tests_start_are_no_jobs_of_github(start_run: StartRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that the project's own tests break on purpose appear neither as annotations nor in the summary of their job."""
    given: dict[str, str] = {}
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("E2E_KEY_PLATFORM", "a-key-of-somebody")

    def begin(_: object, environment: Mapping[str, str], __: object) -> subprocess.Popen[bytes]:
        given.update(environment)
        return subprocess.Popen(["true"])

    start_run(begin=begin, PATH="/bin").wait()

    assert given["PATH"] == "/bin"
    assert [name for name in given if name.startswith(("GITHUB_", "E2E_"))] == []


def _headings(file: Path) -> set[str]:
    """Return the headings of a document as links name them."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def _jobs(file: Path) -> Iterator[dict[str, Any]]:
    yield from yaml.safe_load(file.read_text())["jobs"].values()
