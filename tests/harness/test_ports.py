"""Ports that stay reserved for the run from the moment they are chosen."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from fixtures.services import Address
from fixtures.stack.ports import LOOPBACK, Ports
from mlflow_proxy_e2e.errors import PortBusyError


@pytest.fixture
def ports() -> Iterator[Ports]:
    taken = Ports()
    yield taken
    taken.release()


def listener(address: Address, *, as_a_service: bool) -> socket.socket:
    """Listen on ``address``: with SO_REUSEADDR, as services do, or without."""
    listening = socket.socket()
    if as_a_service:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((address.host, address.port))
        listening.listen()
    except OSError:
        listening.close()
        raise
    return listening


def test_a_service_can_listen_on_a_taken_port(ports: Ports) -> None:
    """A service listens on the port that is held for it, can be reached there, and can do so again after a restart."""
    address = ports.take("proxy")

    for _ in ("at start", "after a restart"):
        with listener(address, as_a_service=True) as service, socket.create_connection((address.host, address.port)):
            service.accept()[0].close()


def test_nobody_is_reached_on_a_port_that_is_only_held(ports: Ports) -> None:
    """Until its service listens, a held port refuses connections, so that nobody believes the service is there."""
    address = ports.take("proxy")

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address.host, address.port))


def test_a_port_is_not_handed_out_twice(ports: Ports) -> None:
    """Neither one run nor two concurrent ones get the same port twice, although nobody listens on any of them yet."""
    beside = Ports()
    try:
        taken = [run.take("mlflow") for _ in range(100) for run in (ports, beside)]
    finally:
        beside.release()

    assert len(set(taken)) == len(taken)


def test_a_port_is_on_loopback(ports: Ports) -> None:
    """What is started for a test cannot be reached from other machines."""
    assert ports.take("auth").host == LOOPBACK


def test_a_fixed_port_is_the_one_that_is_taken(ports: Ports) -> None:
    """A requested port is taken if it is free."""
    with listener(Address(LOOPBACK, 0), as_a_service=True) as somebody:
        free_in_a_moment = Address(*somebody.getsockname())

    assert ports.take("edge", free_in_a_moment.port) == free_in_a_moment


@pytest.mark.parametrize("as_a_service", [True, False])
def test_a_port_on_which_somebody_listens_is_busy(ports: Ports, as_a_service: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A fixed port that is in use is refused with the option that requested it, however the other program listens."""
    with listener(Address(LOOPBACK, 0), as_a_service=as_a_service) as somebody:
        port = somebody.getsockname()[1]

        with pytest.raises(PortBusyError, match=rf"--port edge={port}, is in use"):
            ports.take("edge", port)


def test_a_released_port_is_free(ports: Ports) -> None:
    """Anybody can use a released port."""
    address = ports.take("proxy")

    ports.release()

    listener(address, as_a_service=False).close()
