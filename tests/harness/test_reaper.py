"""The reaper ends everything that belongs to a run whose controller is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from fixtures.stack.run_folder import processes_of
from mlflow_proxy_e2e import timeouts
from tests.harness.conftest import ROOT, wait_until

# Starts a run inside another one, as the tests of faults do, and a process of each; then waits.
NESTED = """
import subprocess, sys
from fixtures.stack.reaper import Reaper
from fixtures.stack.run_folder import RunFolder

for _ in range(2):
    folder = RunFolder.create()
    Reaper(folder)
    folder.adopt_children()
    subprocess.Popen(["sleep", "60"], start_new_session=True)
    print(folder.path, flush=True)
sys.stdin.read()
"""
# Removes a run whose processes all end at once, as soon as the first of them is killed.
ENDING_TOGETHER = """
import os, signal, subprocess
from fixtures.stack.run_folder import RunFolder

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
folder = RunFolder.create()
folder.adopt_children()
read, write = os.pipe()
subprocess.Popen(["sleep", "60"], pass_fds=[write])
for _ in range(50):
    subprocess.Popen(["cat"], stdin=read)
os.close(write)
folder.remove()
"""


def test_run_inside_a_run(tmp_path: Path) -> None:
    """A controller killed while it has a nested run leaves nothing of either."""
    with subprocess.Popen(
        [sys.executable, "-c", NESTED],
        cwd=ROOT,
        env=_environment(tmp_path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as runner:
        assert runner.stdout
        folders = [Path(runner.stdout.readline().strip()) for _ in range(2)]
        assert [len(processes_of(folder)) for folder in folders] == [1, 1]
        runner.send_signal(signal.SIGKILL)

    wait_until(lambda: not any(map(processes_of, folders)) and not list(tmp_path.iterdir()), timeouts.GONE)

    assert [processes_of(folder) for folder in folders] == [[], []]
    assert list(tmp_path.iterdir()) == []


def test_processes_that_end_together(tmp_path: Path) -> None:
    """A run is removed completely although most of its processes disappear as soon as another one is killed."""
    removed = subprocess.run(
        [sys.executable, "-c", ENDING_TOGETHER], cwd=ROOT, env=_environment(tmp_path), capture_output=True, text=True, check=False
    )

    assert removed.stderr == ""
    assert removed.returncode == 0
    assert list(tmp_path.iterdir()) == []


def _environment(temp: Path) -> dict[str, str]:
    return {"TMPDIR": str(temp), "PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
