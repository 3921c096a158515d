"""While keys cannot be checked, nobody is let in; afterwards, valid keys work again by themselves."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest

from mlflow_proxy_e2e.target import Route, Target
from tests.outages.outage import Outage, assert_unavailable, load, outcome

ANYBODY = ("platform", "reader", "anonymous", "revoked", "unknown")
BAD = ("anonymous", "revoked", "unknown")  # their keys are never valid
ENOUGH = 20  # calls before, during and after the outage


@pytest.mark.parametrize("fate", ["kill", "pause"])
def test_everybody_is_kept_out(outage: Outage, route: Route, target: Target, fate: str) -> None:
    """While the auth service is down or silent, the answer is 503, whatever the key; then each key counts as before."""
    {"kill": outage.kill, "pause": outage.pause}[fate]("auth")

    with ThreadPoolExecutor(len(ANYBODY)) as callers:
        list(callers.map(lambda name: assert_unavailable(route, target.identity(name), 503), ANYBODY))

    outage.end()
    outage.wait_until_over()
    assert [outcome(route, target.identity(name)) for name in ANYBODY] == ["200", "200", "401", "401", "401"]


def test_no_bad_key_ever_gets_in(outage: Outage, route: Route, target: Target) -> None:
    """A bad key is never let in, neither while the auth service goes down nor while it comes back."""
    callers = itertools.cycle([target.identity(name) for name in BAD])

    with load(lambda: outcome(route, next(callers)), callers=1) as attempts:
        attempts.wait_for("401", ENOUGH)
        outage.kill("auth")
        attempts.wait_for("503", ENOUGH)
        outage.end()
        attempts.wait_for("401", ENOUGH)

    assert set(attempts.outcomes) == {"401", "503"}
