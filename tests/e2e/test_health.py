"""The hops' own health paths, which load balancers and schedulers check."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from mlflow_proxy_e2e.stash import TARGET
from mlflow_proxy_e2e.target import Route, Target
from mlflow_proxy_e2e.wire import Request, Wire, describe


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test once for each hop that can be called directly."""
    hops = sorted(hop.name for hop in metafunc.config.stash[TARGET].hops if hop.url)
    unknown = pytest.param(None, id="unknown", marks=pytest.mark.skip("the target's hops are not known"))
    metafunc.parametrize("name", hops or [unknown])


def test_health(name: str, target: Target) -> None:
    """A hop's health path answers without a key, and names no other service."""
    hop = next(hop for hop in target.hops if hop.name == name)
    assert hop.url
    request = Request("GET", hop.health)

    with Wire(Route(name, hop.url, hop.ca)) as wire:
        answer = wire.ask(request)

    assert answer.status == 200, describe(wire, request, answer, 200)
    assert not [other for other in target.hops if other.url and urlsplit(other.url).netloc in str(answer)]
