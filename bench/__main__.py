"""``python -m bench [containers|smoke]``: prints ratios, each the median over rounds that alternate what is compared.

stack ready / plain server ready    what the three other services add to MLflow's start
e2e run / floor                     what the suite adds to what cannot be avoided: the plain server's start, and the same
                                    HTTP requests sent straight to it by as many clients at once

With ``containers``, it prints another ratio instead:

container stack ready / process stack ready     what containers add to the start, with the images built

With ``smoke``, it prints how many seconds ``-m smoke`` takes on two cores, by nothing but the profile of a stack that is up.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from bench.recorder import FOLDER
from fixtures.profiles import write_profile
from fixtures.services.mlflow import AUTHENTICATED_READ, mlflow
from fixtures.stack.owned import POLL_SECONDS
from fixtures.stack.ports import Ports
from fixtures.stack.process import ProcessStack, start_process
from fixtures.stack.reaper import ROOT
from fixtures.stack.run_folder import RunFolder
from mlflow_proxy_e2e.stack import Stack

ROUNDS = 3
WORKERS = 2
E2E = [sys.executable, "-m", "pytest", "-q", "-m", "e2e", "-n", str(WORKERS), "-p", "no:cacheprovider"]
SMOKE = [*E2E, "-m", "smoke"]


def main() -> None:
    if sys.argv[1:] == ["containers"]:
        from fixtures.stack.container import ContainerStack  # only who has Docker needs what it imports

        ContainerStack().prepare()
        starts = [(seconds(lambda: start(ContainerStack())), seconds(lambda: start(ProcessStack()))) for _ in range(ROUNDS)]
        show("container stack ready / process stack ready", starts)
        return
    if sys.argv[1:] == ["smoke"]:
        show_smoke()
        return
    with tempfile.TemporaryDirectory() as folder:
        recordings = record(Path(folder))
        starts = [(seconds(lambda: start(ProcessStack())), seconds(start_plain)) for _ in range(ROUNDS)]
        show("stack ready / plain server ready", starts)
        runs = [(seconds(run_e2e), seconds(lambda: run_floor(recordings))) for _ in range(ROUNDS)]
        show("e2e run / floor", runs)


def seconds(action: Callable[[], object]) -> float:
    """Return how long ``action`` takes."""
    began = time.monotonic()
    action()
    return time.monotonic() - began


def show(title: str, pairs: list[tuple[float, float]]) -> None:
    """Print the median ratio, and each pair that it comes from."""
    ratio = statistics.median(a / b for a, b in pairs)
    each = ", ".join(f"{a:.1f} s / {b:.1f} s = {a / b:.2f}" for a, b in pairs)
    print(f"{title}: {ratio:.2f} (median of {each})", flush=True)


def show_smoke() -> None:
    """Print the median time of smoke by profile, and each that it comes from."""
    stack = ProcessStack()
    try:
        target = stack.start()
        list(stack.until_ready())
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "live.toml")
            environment = {**os.environ, **write_profile(target, file), "XDG_STATE_HOME": folder}
            command = [*SMOKE, f"--target={file}"]
            taken = [
                seconds(lambda: subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=True))
                for _ in range(ROUNDS)
            ]
    finally:
        stack.stop()
    each = ", ".join(f"{one:.1f} s" for one in taken)
    print(f"smoke by profile: {statistics.median(taken):.1f} s (median of {each})", flush=True)


def record(folder: Path) -> list[Path]:
    """Run the suite once and return the recordings of its workers."""
    subprocess.run([*E2E, "-p", "bench.recorder"], cwd=ROOT, env={**os.environ, FOLDER: str(folder)}, check=True)
    return sorted(folder.iterdir())


def run_e2e() -> None:
    """Run the suite."""
    subprocess.run(E2E, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)


def run_floor(recordings: list[Path]) -> None:
    """Start the plain server, and send it what each worker sent, all at once."""
    with plain_server() as url:
        clients = [
            subprocess.Popen([sys.executable, "-m", "bench.replay", str(path), url], cwd=ROOT, stdout=subprocess.DEVNULL)
            for path in recordings
        ]
        if any(client.wait() for client in clients):
            sys.exit("The replay failed: see above.")


def start(stack: Stack) -> None:
    """Start a whole stack, and end it."""
    try:
        stack.start()
        for _ in stack.until_ready():
            pass
    finally:
        stack.stop()


def start_plain() -> None:
    """Start the plain server."""
    with plain_server():
        pass


@contextmanager
def plain_server() -> Iterator[str]:
    """Run MLflow with the very options that the stack gives it, and nothing else; yield its URL when it answers."""
    ports, folder = Ports(), RunFolder.create()
    folder.adopt_children()
    service = mlflow(ports.take("mlflow"))
    url = f"http://{service.address}"
    server = start_process(service, folder.path)
    try:
        while not _answers(url + AUTHENTICATED_READ):
            if server.exit_code() is not None:
                sys.exit("The plain server ended:\n" + server.log())
            time.sleep(POLL_SECONDS)
        yield url
    finally:
        folder.remove()
        server.process.wait()
        ports.release()


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=1).status_code == 200
    except requests.RequestException:
        return False


if __name__ == "__main__":
    main()
