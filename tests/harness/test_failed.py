"""Failed tests that no finding accounts for are grouped, and located no more precisely than the tested routes allow."""

from __future__ import annotations

import pytest

from mlflow_proxy_e2e.diagnosis.failed import FailedTest, group
from mlflow_proxy_e2e.facts.facts import Facts
from mlflow_proxy_e2e.plugin.failures import same_test_on
from mlflow_proxy_e2e.target import Identity, Route, Target

CAME, EXPECTED = "came      418 text/plain 'teapot'", "expected  200"


@pytest.fixture
def facts() -> Facts:
    """Return the facts of a target whose logs cannot be read. It is not asked anything."""
    routes = (Route("external", "https://localhost:1"), Route("internal", "http://localhost:2"))
    return Facts(Target("target", routes, (Identity("platform", frozenset({"read"})),), frozenset()))


def test_on_two_routes(facts: Facts) -> None:
    """A test that fails on one route and passes on the other fails because of a hop that only the first one crosses."""
    (only,) = group(facts, [FailedTest("t[external]", "external", (), passed_on=frozenset({"internal"}))])

    assert only.hops == ("edge",)


def test_on_one_route(facts: Facts) -> None:
    """A test that ran on a single route may fail because of any hop on it."""
    (only,) = group(facts, [FailedTest("t[external]", "external", ())])

    assert only.hops == ("edge", "proxy", "auth", "mlflow")


def test_behind_the_edge(facts: Facts) -> None:
    """A test that also fails on the route that does not cross the edge does not fail because of the edge."""
    (only,) = group(facts, [FailedTest(f"t[{name}]", name, ()) for name in ("external", "internal")])

    assert only.hops == ("proxy", "auth", "mlflow")


def test_alike(facts: Facts) -> None:
    """Tests with the same answer and the same expectation form one group, whatever they sent; the largest group comes first."""
    messages = ["AssertionError: 1 != 2", *(f"sent      GET /{number}\n{CAME}\n{EXPECTED}" for number in range(2))]
    largest, other = group(facts, [FailedTest(f"t{n}[internal]", "internal", (), message=each) for n, each in enumerate(messages)])

    assert largest.tests == ("t1[internal]", "t2[internal]")
    assert largest.example == ("sent      GET /0", CAME, EXPECTED)
    assert other.tests == ("t0[internal]",)


@pytest.mark.parametrize(
    ("test", "elsewhere"),
    [
        ("file.py::test[external]", "file.py::test[internal]"),
        ("file.py::test[tag-external-x]", "file.py::test[tag-internal-x]"),
        ("file.py::test[externally]", "file.py::test[externally]"),
        ("external.py::test", "external.py::test"),
    ],
)
def test_same_test_on_another_route(test: str, elsewhere: str) -> None:
    """The id of the same test on another route differs only in the route's name."""
    assert same_test_on(test, "external", "internal") == elsewhere
