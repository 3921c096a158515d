"""A run leaves nothing behind, however it ends."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
import requests

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.errors import SuiteError
from tests.harness.conftest import ONE_TEST, RUN_SECONDS, Run, StartRun, wait_until

SEVERAL_TESTS = ("tests/e2e/test_experiments.py", "tests/e2e/test_runs.py")
SAMPLE_SECONDS = 0.2  # between two looks at the processes' arguments


def test_after_success(start_run: StartRun, kind: str) -> None:
    """A run that passes reports what was started and what was exercised, and leaves nothing."""
    run = start_run(*ONE_TEST, "--stack", kind)

    assert run.wait() == 0, run.output
    for service in ("auth", "mlflow", "proxy", "edge"):
        assert f"{service:<7} ready after" in run.output
    assert "1 checks over 1 cells (route x identity x capability)" in run.output
    run.assert_nothing_left(seconds=0)


def test_after_failure(start_run: StartRun, kind: str) -> None:
    """A run that fails shows every service's log, and leaves nothing."""
    run = start_run(*ONE_TEST, "--stack", kind, "--fault", "port-refused")

    assert run.wait() == 1, run.output
    assert "log of the service 'mlflow'" in run.output
    assert "log of the service 'proxy'" in run.output
    run.assert_nothing_left(seconds=0)


def test_after_ctrl_c(start_run: StartRun, kind: str) -> None:
    """A run that the user interrupts during startup leaves nothing."""
    run = start_run(*SEVERAL_TESTS, "-n", "2", "--stack", kind)
    run.until("auth    ready")

    os.killpg(run.process.pid, signal.SIGINT)  # as a terminal does

    assert run.wait() == pytest.ExitCode.INTERRUPTED, run.output
    run.assert_nothing_left()


@pytest.mark.parametrize("moment", range(10))
def test_after_kill(start_run: StartRun, moment: int) -> None:
    """Whenever the controller is killed, nothing is left within ten seconds."""
    run = start_run(*SEVERAL_TESTS, "-n", "2")
    wait_until(lambda: len(run.processes()) > 1, RUN_SECONDS)

    chance = random.Random(moment)
    wait_until(lambda: run.process.poll() is not None, chance.uniform(0, 2) if moment % 2 else chance.uniform(2, 20))
    run.process.send_signal(signal.SIGKILL)

    run.process.wait()
    run.assert_nothing_left()


def test_after_kill_of_worker(start_run: StartRun) -> None:
    """A run that loses a worker continues with another, does not blame the target for what was lost, and leaves nothing."""
    run = start_run(*SEVERAL_TESTS, "-n", "2", "-v")
    run.until("PASSED")

    _workers(run)[0].kill()

    assert run.wait() == SuiteError.exit_code
    assert "crashed while running" in run.output
    run.assert_nothing_left(seconds=0)


@pytest.mark.parametrize("moment", range(10))
def test_after_kill_of_worker_at_some_moment(start_run: StartRun, moment: int) -> None:
    """Whenever a worker is killed, the run ends and leaves nothing."""
    run = start_run(*ONE_TEST, "-n", "2")
    wait_until(lambda: len(_workers(run)) == 2, RUN_SECONDS)

    chance = random.Random(moment)
    wait_until(lambda: run.process.poll() is not None, chance.uniform(0, 12))
    for worker in _workers(run)[:1]:  # none, if the run was faster
        worker.kill()

    run.wait()
    run.assert_nothing_left(seconds=0)


def test_after_kill_of_everything_but_services(start_run: StartRun) -> None:
    """What is left after controller and reaper were both killed is removed at the start of the next run."""
    run = start_run(*ONE_TEST)
    run.until("auth    ready")
    for process in run.processes():
        with contextlib.suppress(psutil.Error):  # it may have ended with another one
            if process.pid == run.process.pid or "fixtures.stack.reaper" in process.cmdline():
                process.kill()
    run.process.wait()
    assert run.processes()

    second = start_run(*ONE_TEST, TMPDIR=str(run.temp))

    assert second.wait() == 0, second.output
    run.assert_nothing_left(seconds=0)


def test_side_by_side(start_run: StartRun) -> None:
    """Two runs on one machine do not get in each other's way."""
    runs = [start_run(*ONE_TEST) for _ in range(2)]

    assert [run.wait() for run in runs] == [0, 0]
    for run in runs:
        run.assert_nothing_left(seconds=0)


def test_kept_stack(start_run: StartRun) -> None:
    """A stack that is kept can be used from a shell as the run says, and stopped as the run says."""
    run = start_run(*ONE_TEST, "--keep-stack")
    assert run.wait() == 0, run.output
    assert run.processes()
    exports = "\n".join(line for line in run.output.splitlines() if line.startswith(("  . ", "  export ")))
    end = next(line for line in run.output.splitlines() if line.startswith("  kill "))

    answer = subprocess.run(["sh", "-c", f"{exports}\nenv | grep ^MLFLOW_TRACKING_"], capture_output=True, text=True, check=True)
    variables = dict(line.split("=", 1) for line in answer.stdout.splitlines())

    with requests.Session() as session:
        session.trust_env = False
        found = session.get(
            f"{variables['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/experiments/get?experiment_id=0",
            headers={"Authorization": f"Bearer {variables['MLFLOW_TRACKING_TOKEN']}"},
            verify=variables["MLFLOW_TRACKING_SERVER_CERT_PATH"],
            timeout=timeouts.GONE,
        )
    assert found.status_code == 200

    subprocess.run(["sh", "-c", end], check=True)
    run.assert_nothing_left()


def test_no_secret_shows(start_run: StartRun) -> None:
    """No key is in the terminal's output, the JUnit file, a service's log or a process's arguments, even after failures."""
    # Tracebacks with all variables, of tests that fail within MLflow's client and requests.
    run = start_run("tests/e2e/test_experiments.py", "-n", "2", "-vv", "--showlocals", "--fault", "port-refused", "--keep-stack")
    arguments: set[str] = set()
    while run.process.poll() is None:
        arguments |= _arguments(run)
        wait_until(lambda: run.process.poll() is not None, SAMPLE_SECONDS)
    assert run.wait() == 1, run.output
    (keys_file,) = run.temp.glob("*/keys.env")
    secrets = [line.partition("=")[2] for line in keys_file.read_text().splitlines()]
    (token_file,) = run.temp.glob("*/auth/admin-token")
    logs = [path.read_text(errors="replace") for path in run.temp.glob("*/*/log")]
    assert len(secrets) == 9
    assert len(logs) == 4

    places = {"terminal": run.output, "junit": run.junit.read_text(), "logs": "".join(logs), "arguments": " ".join(arguments)}

    for place, text in places.items():
        assert text, place
        for secret in (*secrets, token_file.read_text()):
            assert secret not in text, place
    end = next(line for line in run.output.splitlines() if line.startswith("  kill "))
    subprocess.run(["sh", "-c", end], check=True)
    run.assert_nothing_left()


def _workers(run: Run) -> list[psutil.Process]:
    return [process for process in run.processes() if "exec(eval(sys.stdin.readline()))" in " ".join(_arguments_of(process))]


def _arguments(run: Run) -> set[str]:
    return {argument for process in run.processes() for argument in _arguments_of(process)}


def _arguments_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []  # it ended in the meantime


def test_temp_folder_is_private(start_run: StartRun) -> None:
    """Nobody else can read the files of a run."""
    run = start_run(*ONE_TEST)
    run.until("auth    ready")

    (folder,) = Path(run.temp).iterdir()

    assert folder.stat().st_mode & 0o077 == 0
    assert run.wait() == 0
