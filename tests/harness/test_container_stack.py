"""A run on containers leaves nothing in Docker, however it ends, and user errors lead to one message."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest

from fixtures.stack import engine
from mlflow_proxy_e2e import errors, timeouts
from tests.harness.conftest import ONE_TEST, RUN_SECONDS, StartRun, wait_until

pytestmark = pytest.mark.docker

CONTAINERS = (*ONE_TEST, "--stack", "container")
STAND_IN = "mlflow-proxy-e2e-test:{}"  # an image that these tests make
PROXY_TOML = """
port = {port}
prefix = "/mlflow"
health = "/health"
[environment]
mlflow_url = "MLFLOW_URL"
auth_url = "AUTH_URL"
"""


@pytest.mark.parametrize(
    ("options", "containers"),
    [((), 1), ((), 4), (("--backend", "postgres", "--mlflow-replicas", "2"), 6)],
    ids=["while-containers-start", "while-services-start", "with-volumes"],
)
def test_after_kill(start_run: StartRun, options: tuple[str, ...], containers: int) -> None:
    """Whenever the controller is killed, nothing is left within thirty seconds."""
    volumes = all_volumes()
    run = start_run(*CONTAINERS, *options)
    wait_until(lambda: len(run.in_docker()) > containers, RUN_SECONDS)  # the network counts, too

    run.process.send_signal(signal.SIGKILL)

    run.process.wait()
    wait_until(lambda: run.in_docker() == [] and not list(run.temp.iterdir()), timeouts.GONE_FROM_DOCKER)
    run.assert_nothing_left()
    assert all_volumes() <= volumes


def test_after_kill_of_reaper_too(start_run: StartRun) -> None:
    """What is left after controller and reaper were both killed is removed at the start of the next run."""
    run = start_run(*CONTAINERS)
    run.until("auth    ready")
    for process in run.processes():
        with contextlib.suppress(psutil.Error):  # it may have ended with another one
            process.kill()
    run.process.wait()
    assert run.in_docker()

    second = start_run(*CONTAINERS, TMPDIR=str(run.temp))

    assert second.wait() == 0, second.output
    assert run.in_docker() == []


def test_kept_stack(start_run: StartRun) -> None:
    """A stack that is kept survives the run, and can be stopped as the run says."""
    run = start_run(*CONTAINERS, "--keep-stack")
    assert run.wait() == 0, run.output
    assert len(run.in_docker()) == 5
    pid = next(line for line in run.output.splitlines() if line.startswith("  kill ")).split()[1]

    os.kill(int(pid), signal.SIGTERM)

    wait_until(lambda: run.in_docker() == [], timeouts.GONE_FROM_DOCKER)
    assert run.in_docker() == []
    run.assert_nothing_left()


def test_no_docker(start_run: StartRun, tmp_path: Path) -> None:
    """Docker's engine cannot be reached."""
    run = start_run(*CONTAINERS, DOCKER_HOST=f"unix://{tmp_path}/docker.sock")

    assert run.wait() == errors.DockerUnavailableError.exit_code, run.output
    assert "Docker does not answer: " in run.output
    assert "the process stack needs no Docker" in run.output
    assert "Traceback" not in run.output
    run.assert_nothing_left(seconds=0)


def test_docker_that_refuses(start_run: StartRun) -> None:
    """The engine answers, but refuses everything."""
    with refusing_engine() as port:
        run = start_run(*CONTAINERS, DOCKER_HOST=f"tcp://127.0.0.1:{port}")

        assert run.wait() == errors.DockerUnavailableError.exit_code, run.output
    assert "Forbidden" in run.output
    assert "Traceback" not in run.output
    run.assert_nothing_left(seconds=0)


@pytest.mark.parametrize("option", ["--mlflow-image", "--envoy-image"])
def test_image_that_there_is_not(start_run: StartRun, option: str) -> None:
    """An image that is not here and that no registry has."""
    run = start_run(*CONTAINERS, option, "127.0.0.1:9/nobody/nothing:1")

    assert run.wait() == errors.ImageError.exit_code, run.output
    assert "There is no image '127.0.0.1:9/nobody/nothing:1' here, and it cannot be pulled" in run.output
    assert "Traceback" not in run.output
    run.assert_nothing_left(seconds=0)


@pytest.mark.parametrize(
    ("does", "port", "error", "message"),
    [
        ("echo no licence >&2; exit 3", 8001, errors.ServiceDiedError, "The service 'proxy' ended at start with exit code 3."),
        ("exec sleep 600", 8001, errors.ServiceNotReadyError, "The service 'proxy' was not ready within"),
    ],
    ids=["exits-at-once", "never-healthy"],
)
def test_proxy_that_does_not_come_up(
    start_run: StartRun, tmp_path: Path, does: str, port: int, error: type[errors.SuiteError], message: str
) -> None:
    """A user's own proxy that fails to start: the message has its log if it ended, or else its health path's answer."""
    (tmp_path / "proxy.toml").write_text(PROXY_TOML.format(port=port))

    run = start_run(*CONTAINERS, *own_proxy(tmp_path, image(does)))

    assert run.wait() == error.exit_code, run.output
    assert message in run.output
    assert ("no licence" if error is errors.ServiceDiedError else "its health path /health: ConnectionError") in run.output
    run.assert_nothing_left(seconds=0)


def test_proxy_that_listens_elsewhere(start_run: StartRun, tmp_path: Path) -> None:
    """The proxy's file names a port on which it does not listen."""
    (tmp_path / "proxy.toml").write_text(PROXY_TOML.format(port=8002))
    serves = "exec python3 -m http.server 8001"

    run = start_run(*CONTAINERS, *own_proxy(tmp_path, image(serves)))

    assert run.wait() == errors.ServiceNotReadyError.exit_code, run.output
    assert "The service 'proxy' was not ready within" in run.output
    assert "its health path /health: ConnectionError" in run.output
    assert run.in_docker() == []


def all_volumes() -> set[str]:
    """Return the names of all volumes, since those that an image creates do not have our label."""
    with engine.connected() as client:
        return {str(volume.name) for volume in client.volumes.list()}


def own_proxy(folder: Path, name: str) -> tuple[str, ...]:
    """Return the options that use an image as the proxy."""
    return ("--proxy-image", name, "--proxy-config", str(folder / "proxy.toml"))


def image(does: str) -> str:
    """Return an image that only runs this command."""
    name = STAND_IN.format(does.split()[1])
    dockerfile = f'FROM python:3.11.14-slim-bookworm\nCMD ["sh", "-c", "{does}"]\n'.encode()
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(dockerfile)
        tar.addfile(entry, io.BytesIO(dockerfile))
    with engine.connected() as client:
        client.images.build(fileobj=io.BytesIO(context.getvalue()), custom_context=True, tag=name, rm=True)
    return name


@contextmanager
def refusing_engine() -> Iterator[int]:
    """Answer 403 to everything, like the proxies in front of some sites' engines."""

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(403)

        do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()
