"""Calls while a service's name does not resolve, and that they work again by themselves once it does."""

from __future__ import annotations

from ipaddress import IPv4Address

from mlflow_proxy_e2e.target import Identity, Target
from tests.containers.conftest import NetworkOutage
from tests.outages.outage import assert_unavailable


def test_mlflow_is_not_in_dns(outage: NetworkOutage, target: Target, platform: Identity) -> None:
    """While MLflow's name does not resolve, the answer is 502, at once."""
    outage.disconnect("mlflow")

    for route in target.routes:
        for _ in range(2):  # on a connection that the proxy may have kept, and on a new one
            assert_unavailable(route, platform, 502)


def test_auth_service_is_not_in_dns(outage: NetworkOutage, target: Target) -> None:
    """While the auth service cannot be reached, everybody gets 503, whatever the key."""
    outage.disconnect("auth")

    for route in target.routes:
        for name in ("platform", "unknown", "anonymous"):
            assert_unavailable(route, target.identity(name), 503)


def test_mlflow_comes_back_at_another_address(outage: NetworkOutage) -> None:
    """A proxy that resolves the name finds MLflow at its new address, without a restart."""
    before, edge = outage.address("mlflow"), outage.address("edge")
    # The lowest free address is assigned first, and the last one broken is repaired first: they swap addresses.
    for service in ("mlflow", "edge") if IPv4Address(before) < IPv4Address(edge) else ("edge", "mlflow"):
        outage.kill(service)
        outage.disconnect(service)

    outage.end()

    assert outage.address("mlflow") != before
    outage.wait_until_over()
