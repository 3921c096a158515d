"""The diagnosis as a separate command, for a target known only by its profile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from fixtures.faults.catalogue import FAULTS
from fixtures.profiles import write_profile
from fixtures.stack.process import ProcessStack
from mlflow_proxy_e2e.errors import BadProfileError
from tests.harness.conftest import ROOT
from tests.harness.database import content, file_of
from tests.harness.faults.conftest import StartFront

SECONDS = 120.0  # for the command, which may ask for thirty, on a busy machine


def command(*arguments: str, typed: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Return the output of the command, and its exit code."""
    words, environment = [sys.executable, "-m", "mlflow_proxy_e2e", *arguments], {**os.environ, **variables}
    return subprocess.run(
        words, cwd=ROOT, env=environment, input=typed, capture_output=True, text=True, timeout=SECONDS, check=False
    )


diagnosis = partial(command, "check")


def profile_of(start_front: StartFront, fault: str | None, file: Path) -> Mapping[str, str]:
    """Start a system, write its profile, and return the environment that the profile names."""
    front = start_front(FAULTS[fault] if fault else None)
    assert front.target
    return write_profile(front.target, file)


def test_of_a_target_that_is_well(start_front: StartFront, tmp_path: Path) -> None:
    """Nothing is wrong with a healthy target, and the exit code says so."""
    variables = profile_of(start_front, None, tmp_path / "target.toml")

    said = diagnosis(f"--target={tmp_path / 'target.toml'}", **variables)

    assert said.stdout.endswith("\nThe diagnostic requests found no problem.\n"), said.stderr
    assert "FAIL" not in said.stdout
    assert said.returncode == 0


def test_of_a_url(start_front: StartFront, trunk: ProcessStack) -> None:
    """Without a profile, a URL and a key are enough, and nothing is created."""
    front = start_front(None)
    assert front.target
    route, key = front.target.route("external"), front.target.identity("platform").key
    assert route.ca
    assert key
    before = content(file_of(trunk))

    said = diagnosis(route.url, f"--ca={route.ca}", "--short", E2E_KEY_PLATFORM=key.reveal())

    assert said.stdout == "The diagnostic requests found no problem.\n", said.stdout + said.stderr
    assert said.returncode == 0
    assert content(file_of(trunk)) == before


def test_of_a_url_with_a_fault(start_front: StartFront) -> None:
    """The promise that is broken is marked, with the cause and its remedy, and the cause has a page."""
    front = start_front(FAULTS["key-check-off"])
    assert front.target
    route, key = front.target.route("internal"), front.target.identity("platform").key
    assert key

    said = diagnosis(route.url, "--key-stdin", typed=key.reveal())
    explained = command("explain", "key-check-off")

    assert "  FAIL no request gets around the key check\n      open: " in said.stdout, said.stdout + said.stderr
    assert "key-check-off" in said.stdout
    assert said.returncode == 1
    assert explained.stdout.startswith("# key-check-off\n")


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
