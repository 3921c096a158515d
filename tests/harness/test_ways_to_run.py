"""What others run the suite with: every command in workflows, manifests and documentation is one that there is."""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
DOCUMENTS = sorted((ROOT / "docs").glob("*.md"))
TOX = re.compile(r"tox(?: [^\n`]*?)? -e ([\w,-]+)")


@pytest.fixture(scope="module")
def environments() -> set[str]:
    """Return the names of tox's environments."""
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini")
    return {section.removeprefix("testenv:") for section in tox.sections()}


@pytest.mark.parametrize("file", [*WORKFLOWS, *DOCUMENTS, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda file: file.stem)
def test_tox_environments_that_are_named(file: Path, environments: set[str]) -> None:
    """Every environment of tox that somebody is told to run is there."""
    named = {name for names in TOX.findall(file.read_text()) for name in names.split(",")}

    assert named <= environments


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_environments_of_a_matrix(file: Path, environments: set[str]) -> None:
    """So is every one that a workflow runs as one of several."""
    matrices = [job.get("strategy", {}).get("matrix", {}) for job in _jobs(file)]

    assert {name for matrix in matrices for name in matrix.get("environment", ())} <= environments


def _jobs(file: Path) -> Iterator[dict[str, Any]]:
    yield from yaml.safe_load(file.read_text())["jobs"].values()
