"""What a test of containers can ask for: the stack itself, to break and to mend it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from docker.models.containers import Container

from fixtures.clients import Rest
from fixtures.options import STACK, TARGET
from fixtures.services.mlflow import AUTHENTICATED_READ
from fixtures.stack.container import ContainerStack
from fixtures.target import Identity, Target

# After an outage is over: MLflow's own start, and the 5 s for which a proxy may still know the address that a name had.
RECOVERY_SECONDS = 60.0
POLL_SECONDS = 0.2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.containers)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "route_name" in metafunc.fixturenames:
        metafunc.parametrize("route_name", ("external", "internal"))


class Outage:
    """The stack in the hands of a test. What it breaks, it mends at the end."""

    def __init__(self, stack: ContainerStack, target: Target) -> None:
        self._stack, self._target = stack, target
        self._mend: list[Callable[[], None]] = []

    def container(self, service: str) -> Container:
        """Return the container of a service."""
        return self._stack.container(service)

    def address(self, service: str) -> str:
        """Return the address at which a service's name is found now."""
        return self._stack.address(service)

    def disconnect(self, service: str) -> None:
        """Take a service off the network, and its name out of DNS."""
        self._mend.append(lambda: self._stack.connect(service))
        self._stack.disconnect(service)

    def pause(self, service: str) -> None:
        """Freeze a service: its connections stay, and nothing is answered."""
        self._mend.append(self.container(service).unpause)
        self.container(service).pause()

    def kill(self, service: str) -> None:
        """Kill a service, as running out of memory would."""
        self._mend.append(self.container(service).start)
        self.container(service).kill()

    def end(self) -> None:
        """Mend what is broken, what was broken last first."""
        while self._mend:
            self._mend.pop()()

    def wait_until_over(self) -> None:
        """Wait until calls succeed on every route, each on a fresh connection."""
        platform = self._target.identity("platform")
        for route in self._target.routes:
            deadline = time.monotonic() + RECOVERY_SECONDS
            while (outcome := _outcome(Rest(route, platform))) != "200":
                assert time.monotonic() < deadline, f"{route} has not recovered within {RECOVERY_SECONDS:g} s: {outcome}"
                time.sleep(POLL_SECONDS)


@pytest.fixture(scope="session")
def target(pytestconfig: pytest.Config) -> Target:
    """Return the target."""
    return pytestconfig.stash[TARGET]


@pytest.fixture
def platform(target: Target) -> Identity:
    """Return an identity that may do everything."""
    return target.identity("platform")


@pytest.fixture(scope="session")
def stack(pytestconfig: pytest.Config) -> ContainerStack:
    """Return the stack."""
    stack = pytestconfig.stash.get(STACK, None)
    if not isinstance(stack, ContainerStack):
        pytest.fail("These tests hold containers in their hands: run them with --stack container, and without -n.")
    return stack


@pytest.fixture
def outage(stack: ContainerStack, target: Target) -> Iterator[Outage]:
    """Hand out the stack, in working order, and wait until it is that again."""
    if stack.choices.replicas > 1:
        pytest.skip("while one MLflow server is away, another answers: outages are for one")
    outage = Outage(stack, target)
    outage.wait_until_over()
    yield outage
    outage.end()
    outage.wait_until_over()


def _outcome(caller: Rest) -> str:
    with caller:
        try:
            return str(caller.get(AUTHENTICATED_READ).status_code)
        except requests.RequestException as error:
            return type(error).__name__
