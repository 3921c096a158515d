"""The floor: the start of a plain MLflow server, and the requests of a run that MLflow has to answer, sent straight to it.

It is a lower bound for a suite that sends these requests with as many workers and threads, as fast as MLflow answers them. It
has no proxy, no TLS, no keys, no assertions, no import of MLflow's client, and no waiting. It leaves out what the proxy refuses,
which is not MLflow's work and would cost it more than the proxy, and what only a raw connection can send.

It is not the fastest way to the same knowledge: what the suite sends one after the other is sent one after the other, whether or
not a request depends on an earlier answer. Nor are all answers the same: some depend on how the workers take turns.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import click
import urllib3

from bench.commands import E2E, run
from bench.recorder import FOLDER
from fixtures.services.mlflow import AUTHENTICATED_READ, mlflow
from fixtures.stack.owned import POLL_SECONDS
from fixtures.stack.ports import Ports
from fixtures.stack.process import start_process
from fixtures.stack.run_folder import RunFolder
from mlflow_proxy_e2e import timeouts


def record(tests: Sequence[str], folder: Path) -> None:
    """Run the tests, and have each worker put a recording into ``folder``. Raises click.ClickException.

    Recording a request takes microseconds, so this is also the run that is timed.
    """
    run([*E2E, "-p", "bench.recorder", *tests], {FOLDER: str(folder)})


def run_floor(folder: Path) -> None:
    """Start the plain server, and send it what the workers have recorded, all of them at once. Raises click.ClickException.

    Prints to standard error how many requests were sent, and how many got the same status as in the suite.
    """
    recordings = list(folder.iterdir())
    with plain_server() as url, ThreadPoolExecutor(len(recordings)) as workers:
        outputs = workers.map(lambda file: run([sys.executable, "-m", "bench.replay", str(file), url]), recordings)
        sent, alike = zip(*(map(int, output.split()) for output in outputs), strict=True)
    click.echo(f"floor: {sum(sent)} requests, {sum(alike)} of them answered with the recorded status", err=True)


@contextmanager
def plain_server() -> Iterator[str]:
    """Run MLflow alone, with the same options as in the stack, and yield its URL when it answers.

    Raises click.ClickException if it does not become ready.
    """
    ports, folder = Ports(), RunFolder.create()
    folder.adopt_children()
    service = mlflow(ports.take("mlflow"))
    url = f"http://{service.address}"
    server = start_process(service, folder.path)
    give_up_at = time.monotonic() + timeouts.READY
    try:
        while not _answers(url + AUTHENTICATED_READ):
            if server.exit_code() is not None or time.monotonic() > give_up_at:
                raise click.ClickException("The plain server does not become ready:\n" + server.log())
            time.sleep(POLL_SECONDS)
        yield url
    finally:
        folder.remove()
        server.process.wait()
        ports.release()


def _answers(url: str) -> bool:
    try:
        return urllib3.request("GET", url, timeout=1, retries=False).status == 200
    except urllib3.exceptions.HTTPError:
        return False
