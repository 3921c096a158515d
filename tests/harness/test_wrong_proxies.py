"""The suite's ability to fail on proxies: in front of one MLflow and auth service, each fault has a proxy of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from fixtures.faults import CATALOGUE
from fixtures.faults.system import System
from fixtures.services import Service, envoy
from fixtures.services.edge.certificates import Authority
from fixtures.stack.ports import Ports
from fixtures.stack.process import ProcessStack, start_process
from fixtures.target import Route
from tests.harness.conftest import StartRun, wait_until
from tests.harness.detections import DETECTED_BY, WITH_A_PROXY_OF_THEIR_OWN
from tests.harness.given import VARIABLE

LISTENING_SECONDS = 10.0

StartProxy = Callable[[str], Route]


@pytest.fixture(scope="module")
def shared() -> Iterator[ProcessStack]:
    """Return the stack whose MLflow and auth service all proxies stand in front of."""
    stack = ProcessStack()
    try:
        stack.start()
        list(stack.until_ready())
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def start_proxy(shared: ProcessStack, tmp_path: Path) -> Iterator[StartProxy]:
    """Return a function that starts a proxy with a fault."""
    ports, processes = Ports(), []

    def start(fault: str) -> Route:
        proxy = _faulty(shared, tmp_path, fault)
        address = ports.take("proxy", 0)
        configuration: dict[str, Any] = envoy.parse(proxy.files[envoy.CONFIGURATION])
        envoy.set_listener(configuration, address)
        home = tmp_path / "proxy"
        home.mkdir()
        files = {**proxy.files, envoy.CONFIGURATION: envoy.dump(configuration)}
        processes.append(start_process(replace(proxy, files=files), home).process)
        wait_until(lambda: _listens(f"http://{address}/health"), LISTENING_SECONDS)
        return Route("internal", f"http://{address}{shared.prefix}")

    yield start
    for process in processes:
        process.kill()
        process.wait()
    ports.release()


def _faulty(stack: ProcessStack, folder: Path, fault: str) -> Service:
    services = {name: running.service for name, running in stack.running.items()}
    system = System(services, Authority(folder / "ca.pem"), stack.new_address)
    CATALOGUE[fault].inject(system)
    return system.services["proxy"]


def _listens(url: str) -> bool:
    try:
        requests.get(url, timeout=1)
    except requests.RequestException:
        return False
    return True


@pytest.mark.parametrize("fault", WITH_A_PROXY_OF_THEIR_OWN)
def test_wrong_proxy_turns_its_tests_red(
    fault: str, shared: ProcessStack, start_proxy: StartProxy, start_run: StartRun, tmp_path: Path
) -> None:
    """A proxy with this fault fails the tests that the fault concerns, and no others; the message says how to see it again."""
    tests, red = DETECTED_BY[fault]
    assert shared.target
    target = replace(shared.target, routes=(start_proxy(fault),))
    given = tmp_path / "target.json"
    given.touch(0o600)
    given.write_text(json.dumps(target.to_data()))

    run = start_run("-p", "tests.harness.given", *tests, **{VARIABLE: str(given)})

    assert run.wait() == pytest.ExitCode.TESTS_FAILED, run.output
    outcomes: Mapping[str, str] = run.outcomes()
    failed = {name for name, outcome in outcomes.items() if outcome != "passed"}
    assert failed == {name for name in outcomes if re.search(red, name)}, run.output
    assert failed
    for part in ("sent      ", "came      ", "expected  ", "again     curl "):
        assert part in run.output
