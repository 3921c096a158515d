"""Fixtures for tests of outages: the stack itself, to break and to repair."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.stack.owned import OwnedStack
from mlflow_proxy_e2e.stash import STACK, TARGET
from mlflow_proxy_e2e.target import Identity, Route, Target
from tests.outages.outage import Outage


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.outages)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "route" in metafunc.fixturenames:
        metafunc.parametrize("route", ("external", "internal"), indirect=True)


@pytest.fixture(scope="session")
def target(pytestconfig: pytest.Config) -> Target:
    """Return the target."""
    return pytestconfig.stash[TARGET]


@pytest.fixture
def route(target: Target, request: pytest.FixtureRequest) -> Route:
    """Return each route."""
    return target.route(request.param)


@pytest.fixture
def direct(target: Target) -> Route:
    """Return the route to MLflow itself."""
    assert target.direct
    return target.direct


@pytest.fixture
def platform(target: Target) -> Identity:
    """Return an identity that is allowed everything."""
    return target.identity("platform")


@pytest.fixture(scope="session")
def stack(pytestconfig: pytest.Config) -> OwnedStack:
    """Return the stack."""
    stack = pytestconfig.stash.get(STACK, None)
    if not isinstance(stack, OwnedStack):
        pytest.fail("These tests break services and repair them: run them on the suite's own stack, and without -n.")
    return stack


@pytest.fixture
def outage(stack: OwnedStack, target: Target) -> Iterator[Outage]:
    """Return the stack's outages; before and after the test, the stack works."""
    outage = Outage(stack, target)
    outage.wait_until_over()
    yield outage
    outage.end()
    outage.wait_until_over()
