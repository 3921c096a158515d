"""Calls while a hop in front of MLflow is down, and that they work again when it is back."""

from __future__ import annotations

from mlflow_proxy_e2e.target import Identity, Target
from tests.outages.outage import Outage, assert_unavailable, outcome


def test_edge_killed(outage: Outage, target: Target, platform: Identity) -> None:
    """While the edge is down, nothing answers at the external URL, and the internal one works."""
    outage.kill("edge")

    assert outcome(target.route("external"), platform) == "ConnectionError"
    assert outcome(target.route("internal"), platform) == "200"


def test_proxy_killed(outage: Outage, target: Target, platform: Identity) -> None:
    """While the proxy is down, nothing answers at the internal URL, and at the external one the edge answers 502, at once."""
    outage.kill("proxy")

    assert outcome(target.route("internal"), platform) == "ConnectionError"
    for _ in range(2):  # on a connection that the edge may have kept, and on a new one
        assert_unavailable(target.route("external"), platform, 502)
