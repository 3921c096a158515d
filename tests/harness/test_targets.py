"""The profiles that come with the project."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlflow_proxy_e2e.profile import load

TARGETS = sorted((Path(__file__).parents[2] / "targets").glob("*.toml"))


@pytest.mark.parametrize("file", TARGETS, ids=lambda file: file.stem)
def test_a_worked_example(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each can be loaded once the variables that it names are set, and has the name of its file."""
    for number, variable in enumerate(re.findall(r'"env:(\w+)"', file.read_text())):
        monkeypatch.setenv(variable, f"key-{number}")

    assert load(file).name == file.stem
