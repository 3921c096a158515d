"""What becomes of calls while a service cannot be found by its name, and that they work again, by themselves, when it can."""

from __future__ import annotations

from ipaddress import IPv4Address

from mlflow_proxy_e2e.target import Identity, Target
from tests.containers.conftest import NetworkOutage
from tests.outages.outage import assert_unavailable


def test_mlflow_is_not_in_dns(outage: NetworkOutage, target: Target, platform: Identity) -> None:
    """While MLflow's name is not known the answer is 502, and it comes at once."""
    outage.disconnect("mlflow")

    for route in target.routes:
        for _ in range(2):  # on a connection that the proxy may have kept, and on one that it has to make
            assert_unavailable(route, platform, 502)


def test_auth_service_is_not_in_dns(outage: NetworkOutage, target: Target) -> None:
    """While the auth service cannot be reached everybody is kept out with 503, whatever the key."""
    outage.disconnect("auth")

    for route in target.routes:
        for name in ("platform", "unknown", "anonymous"):
            assert_unavailable(route, target.identity(name), 503)


def test_mlflow_comes_back_at_another_address(outage: NetworkOutage) -> None:
    """A proxy that goes by the name finds MLflow where it is now, without being restarted."""
    before, edge = outage.address("mlflow"), outage.address("edge")
    # The lowest free address is given first, and what was broken last is mended first: each is given what was the other's.
    for service in ("mlflow", "edge") if IPv4Address(before) < IPv4Address(edge) else ("edge", "mlflow"):
        outage.kill(service)
        outage.disconnect(service)

    outage.end()

    assert outage.address("mlflow") != before
    outage.wait_until_over()
