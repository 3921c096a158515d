"""What can be reached from outside the run's network."""

from __future__ import annotations

from fixtures.stack.container import ContainerStack
from fixtures.stack.ports import LOOPBACK


def test_only_loopback_reaches_a_service(stack: ContainerStack) -> None:
    """No service, least of all MLflow, accepts calls from other machines."""
    published = {
        name: {binding["HostIp"] for bindings in stack.container(name).ports.values() for binding in bindings or ()}
        for name in stack.running
    }

    assert published == {name: {LOOPBACK} if running.service.ready else set() for name, running in stack.running.items()}
