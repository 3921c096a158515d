"""How long each hop waits for the next one: an answer just in time is passed on, and a later one becomes a refusal."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from fixtures.services.mlflow import AUTHENTICATED_READ
from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.rest import Rest
from mlflow_proxy_e2e.target import Identity, Target
from tests.outages.outage import Outage, assert_unavailable

LIMITS = {
    "auth": (timeouts.AUTH_SILENCE, 503, ("external", "internal")),
    "mlflow": (timeouts.MLFLOW_SILENCE, 504, ("external", "internal")),
    "proxy": (timeouts.PROXY_SILENCE, 504, ("external",)),
}


@pytest.mark.parametrize("silent", LIMITS)
def test_silence(outage: Outage, target: Target, platform: Identity, silent: str) -> None:
    """If a service accepts calls but does not answer, the hop in front of it refuses a call when it has waited as long as it
    should, and not before; a call made a little later is answered as soon as the service continues."""
    limit, status, names = LIMITS[silent]
    routes = [target.route(name) for name in names]
    little = min(limit / 2, timeouts.ATTEMPT)

    def is_answered(name: str) -> bool:
        with Rest(target.route(name), platform) as caller:
            return caller.get(AUTHENTICATED_READ, timeout=limit + timeouts.AT_ONCE).status_code == 200

    with ThreadPoolExecutor(2 * len(routes)) as callers:
        outage.pause(silent)
        too_early = [
            callers.submit(assert_unavailable, route, platform, status, within=limit + timeouts.AT_ONCE) for route in routes
        ]
        outage.last_until(little)
        in_time = [callers.submit(is_answered, name) for name in names]
        waited = [refusal.result() for refusal in too_early]
        outage.end()
        assert [answer.result() for answer in in_time] == [True] * len(names)

    assert min(waited) > limit - timeouts.CLOCK
    assert max(waited) < limit + little
