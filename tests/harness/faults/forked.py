"""Runs forked from a process that has already imported large libraries: importing takes longer than most runs on a fault."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path

import pytest

_SERVER = multiprocessing.get_context("forkserver")


def prepare() -> None:
    """Start the process from which all others are forked. Its socket is in the current folder for temporary files."""
    _SERVER.set_forkserver_preload(["mlflow", "hypothesis", __name__])
    forkserver.ensure_running()


class Forked:
    """A run of pytest in a fork, with the part of ``subprocess.Popen`` that is used."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], output: Path) -> None:
        self._process = _SERVER.Process(target=_run, args=(list(arguments), dict(environment), str(output)))
        self._process.start()
        self.pid = self._process.pid or 0

    @property
    def returncode(self) -> int | None:
        """Return the exit code, or None before the end."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the exit code, or None before the end."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code, at the end. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("pytest", timeout or 0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to the run."""
        os.kill(self.pid, number)


def _run(arguments: list[str], environment: dict[str, str], output: str) -> None:
    os.setsid()
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(file, stream.fileno())
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # makes tempfile look it up again
    sys.exit(pytest.main(arguments))
