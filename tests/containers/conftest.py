"""Fixtures for tests of containers: the stack itself, to break and to repair."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.stack.container import ContainerStack
from mlflow_proxy_e2e.stash import STACK, TARGET
from mlflow_proxy_e2e.target import Identity, Target
from tests.outages.outage import Outage


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.containers)


class NetworkOutage(Outage):
    """Outages that include the network on which services find each other by name."""

    def __init__(self, stack: ContainerStack, target: Target) -> None:
        super().__init__(stack, target)
        self._network = stack

    def address(self, service: str) -> str:
        """Return the address to which a service's name resolves now."""
        return self._network.address(service)

    def disconnect(self, service: str) -> None:
        """Take a service off the network, and its name out of DNS."""
        self._network.disconnect(service)
        self._breaks(service, "network", lambda: self._network.connect(service))


@pytest.fixture(scope="session")
def target(pytestconfig: pytest.Config) -> Target:
    """Return the target."""
    return pytestconfig.stash[TARGET]


@pytest.fixture
def platform(target: Target) -> Identity:
    """Return an identity that is allowed everything."""
    return target.identity("platform")


@pytest.fixture(scope="session")
def stack(pytestconfig: pytest.Config) -> ContainerStack:
    """Return the stack."""
    stack = pytestconfig.stash.get(STACK, None)
    if not isinstance(stack, ContainerStack):
        pytest.fail("These tests hold containers in their hands: run them with --stack container, and without -n.")
    return stack


@pytest.fixture
def outage(stack: ContainerStack, target: Target) -> Iterator[NetworkOutage]:
    """Return the stack's outages; before and after the test, the stack works."""
    if stack.choices.replicas > 1:
        pytest.skip("while one MLflow server is away, another answers: outages are for one")
    outage = NetworkOutage(stack, target)
    outage.wait_until_over()
    yield outage
    outage.end()
    outage.wait_until_over()
