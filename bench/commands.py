"""The commands that are measured."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

import click

from fixtures.stack.reaper import ROOT

WORKERS = 2
PYTEST = (sys.executable, "-m", "pytest", "-q", "-n", str(WORKERS), "-p", "no:cacheprovider")
E2E = (*PYTEST, "-m", "e2e")
SMOKE = (*PYTEST, "-m", "smoke")
SECONDS = 3600.0  # for any one of them, on however busy a machine
SHOWN_CHARACTERS = 4000  # of the output of one that has failed


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """Run a command in the project's folder, with these variables added, and return its output.

    Raises click.ClickException with the end of its output if it fails, subprocess.TimeoutExpired.
    """
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode:
        raise click.ClickException(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout[-SHOWN_CHARACTERS:]}")
    return done.stdout
