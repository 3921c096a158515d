"""Runs of the suite as a user starts them, each with a folder of its own for temporary files."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil
import pytest

from fixtures.stack import engine
from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.severity import SEVERITIES

ROOT = Path(__file__).parents[2]
RECORDINGS = Path(__file__).parent / "faults" / "recordings.tar.xz"
RUN_SECONDS = 300.0  # for a whole run to end by itself
AS_USERS_HAVE_IT = ("-p", "no:schemathesis", "-p", "no:pytest_cov", "-p", "no:cacheprovider")
FAIL_ON_ALL = f"--fail-on={','.join(SEVERITIES)}"  # every failure counts here
# The variables of these tests are not meant for the runs that they start, least of all a job's summary for runs meant to fail.
NOT_INHERITED = ("PYTEST_", "COV", "MLFLOW_", "E2E_", "GITHUB_")
ONE_TEST = ("tests/e2e/test_experiments.py", "-k", "test_create_experiment", "--route", "internal", "--identity", "writer")


class Process(Protocol):
    """The part of ``subprocess.Popen`` that is used."""

    pid: int

    @property
    def returncode(self) -> int | None:
        """Return the exit code, or None as long as it was not waited for."""

    def poll(self) -> int | None:
        """Return the exit code, or None before the end."""

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code, at the end. Raises subprocess.TimeoutExpired."""

    def send_signal(self, number: int, /) -> None:
        """Send a signal."""


@dataclass
class Run:
    """A run of the suite, which may still be going on."""

    process: Process
    output_file: Path
    temp: Path
    junit: Path
    result: Path
    uses_docker: bool

    def wait(self) -> int:
        """Wait for the end and return the exit code."""
        return self.process.wait(RUN_SECONDS)

    @property
    def output(self) -> str:
        """Return what the run has printed so far."""
        return self.output_file.read_text(errors="replace")

    def until(self, text: str) -> None:
        """Wait until the run has printed ``text``."""
        wait_until(lambda: text in self.output or self.process.poll() is not None, RUN_SECONDS)
        assert text in self.output

    def outcomes(self) -> Mapping[str, str]:
        """Return the outcome of each test by its name: passed, failed, error or skipped."""
        return {case.attrib["name"]: _outcome(case) for case in self._cases()}

    def outcomes_by_id(self) -> Mapping[str, str]:
        """Return the outcome of each test by pytest's id of it: passed, failed, error or skipped."""
        return {f"{case.attrib['classname'].replace('.', '/')}.py::{case.attrib['name']}": _outcome(case) for case in self._cases()}

    def _cases(self) -> Iterator[ElementTree.Element]:
        return ElementTree.parse(self.junit).iter("testcase")

    @property
    def verdict(self) -> Mapping[str, Any]:
        """Return the verdict as the result has it: findings, and failed tests that none of them accounts for."""
        verdict = json.loads(self.result.read_text())["verdict"]
        assert verdict, self.output
        return dict(verdict)

    def processes(self) -> list[psutil.Process]:
        """Return every living process that belongs to the run."""
        return [process for process in psutil.process_iter() if _uses(process, self.temp)]

    def in_docker(self) -> list[str]:
        """Return the names of what the run has in Docker: nothing for one that does not use it."""
        if not self.uses_docker:
            return []
        with engine.connected() as client:
            things = [
                *((container.name, container.labels) for container in client.containers.list(all=True, ignore_removed=True)),
                *((network.name, network.attrs["Labels"]) for network in client.networks.list()),
                *((volume.name, volume.attrs["Labels"]) for volume in client.volumes.list()),
            ]
        return [str(name) for name, labels in things if (labels or {}).get(engine.RUN_LABEL, "").startswith(str(self.temp))]

    def assert_nothing_left(self, seconds: float = timeouts.GONE) -> None:
        """Assert that within some seconds no process, port, file or Docker object of the run is left."""
        wait_until(lambda: not self.processes() and not list(self.temp.iterdir()), seconds)
        assert self.in_docker() == []
        assert [process.cmdline() for process in self.processes()] == []
        assert list(self.temp.iterdir()) == []


Begin = Callable[[Sequence[str], Mapping[str, str], Path], Process]
OUTCOMES = ("failure", "error", "skipped")
StartRun = Callable[..., Run]


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Return the file with the facts of each system of the lab, by its name."""
    folder = tmp_path_factory.mktemp("recordings")
    with tarfile.open(RECORDINGS) as archive:
        archive.extractall(folder, filter="data")
    return {file.stem: file for file in folder.glob("*.json")}


@pytest.fixture(params=["process", pytest.param("container", marks=pytest.mark.docker)])
def kind(request: pytest.FixtureRequest) -> str:
    """Return each kind of stack that the lab can start."""
    return str(request.param)


@pytest.fixture
def start_run(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[StartRun]:
    """Return a function that starts ``pytest -m e2e`` with the given arguments and environment."""
    runs: list[Run] = []
    uses_docker = request.node.get_closest_marker("docker") is not None

    def start(*arguments: str, begin: Begin = _begin, **environment: str) -> Run:
        home = tmp_path / str(len(runs))
        temp = home / "tmp"
        temp.mkdir(parents=True)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
        junit, result, output = home / "junit.xml", home / "result.json", home / "output"
        options = ("-m", "e2e", *AS_USERS_HAVE_IT, FAIL_ON_ALL, f"--junitxml={junit}", f"--report-json={result}")
        process = begin([*options, *arguments], {**inherited, "TMPDIR": str(temp), **environment}, output)
        runs.append(Run(process, output, temp, junit, result, uses_docker))
        return runs[-1]

    yield start
    for run in runs:
        if run.process.poll() is None:
            run.process.send_signal(signal.SIGKILL)
            run.process.wait()
        for process in run.processes():  # of a stack that a test failed to stop: its reaper does
            with contextlib.suppress(psutil.Error):
                if "fixtures.stack.reaper" in process.cmdline():
                    process.terminate()


def _begin(arguments: Sequence[str], environment: Mapping[str, str], output: Path) -> Process:
    with output.open("w") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", *arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_heed_ctrl_c,
        )


def _outcome(case: ElementTree.Element) -> str:
    return next((child.tag for child in case if child.tag in OUTCOMES), "passed")


def _heed_ctrl_c() -> None:
    # A shell makes background processes ignore it, and their children inherit that: these tests may have been started so.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Return as soon as ``condition`` holds, or after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)


def _uses(process: psutil.Process, temp: Path) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.environ().get("TMPDIR", "").startswith(str(temp))
    except (psutil.Error, OSError):
        return False
