"""The diagnosis as a separate command, for a target known only by its profile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from fixtures.faults.catalogue import FAULTS
from fixtures.profiles import write_profile
from mlflow_proxy_e2e.errors import BadProfileError
from tests.harness.conftest import ROOT
from tests.harness.faults.conftest import StartFront

SECONDS = 60.0  # for the command, which imports its libraries and may then ask for ten


def diagnosis(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Return the output of the command, and its exit code."""
    command = [sys.executable, "-m", "mlflow_proxy_e2e", "check", *arguments]
    environment = {**os.environ, **variables}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)


def profile_of(start_front: StartFront, fault: str | None, file: Path) -> Mapping[str, str]:
    """Start a system, write its profile, and return the environment that the profile names."""
    front = start_front(FAULTS[fault] if fault else None)
    assert front.target
    return write_profile(front.target, file)


def test_of_a_target_that_is_well(start_front: StartFront, tmp_path: Path) -> None:
    """Nothing is wrong with a healthy target, and the exit code says so."""
    variables = profile_of(start_front, None, tmp_path / "target.toml")

    said = diagnosis(f"--target={tmp_path / 'target.toml'}", **variables)

    assert said.stdout == "The diagnostic requests found no problem.\n", said.stderr
    assert said.returncode == 0


def test_of_a_target_with_a_fault(start_front: StartFront, tmp_path: Path) -> None:
    """Over HTTP alone, the cause is named, with its hop."""
    variables = profile_of(start_front, "rule-straight-to-mlflow", tmp_path / "target.toml")

    said = diagnosis(f"--target={tmp_path / 'target.toml'}", "--json", **variables)

    (finding,) = json.loads(said.stdout)["findings"]
    assert (finding["causes"], finding["hops"]) == (["rule-straight-to-mlflow"], ["edge"])
    assert said.returncode == 1


def test_without_a_profile(tmp_path: Path) -> None:
    """A missing profile is one clear message."""
    said = diagnosis(f"--target={tmp_path / 'missing.toml'}")

    assert said.returncode == BadProfileError.exit_code
    assert str(tmp_path / "missing.toml") in said.stderr
    assert "Traceback" not in said.stderr


def test_of_facts_written_down(start_front: StartFront, tmp_path: Path) -> None:
    """Recorded facts give the same verdict without the target."""
    variables = profile_of(start_front, "rule-straight-to-mlflow", tmp_path / "target.toml")
    facts = f"--facts={tmp_path / 'facts.json'}"

    asked = diagnosis(f"--target={tmp_path / 'target.toml'}", facts, "--json", **variables)
    read = diagnosis(facts, "--json")

    assert asked.returncode == read.returncode == 1, read.stderr
    assert json.loads(read.stdout) == json.loads(asked.stdout)
