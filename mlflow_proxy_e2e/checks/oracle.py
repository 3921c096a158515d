"""What a route must make of MLflow's answers: nothing. How an answer is held against the one that MLflow itself gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from mlflow_proxy_e2e.version import VERSION
from mlflow_proxy_e2e.wire import HEADERS_THAT_MATTER, Answer, Request, Wire, describe, matters


class Excuse(NamedTuple):
    """Why something of MLflow's answers may be other through a route, and a request whose answer shows it.

    Args:
        what: the name of a header, or a part of a body.
        path: what the paths begin with to whose answers it applies.
        capabilities: what a target needs for the request.
    """

    what: str
    reason: str
    shown_by: Request
    path: str = "/"
    capabilities: tuple[str, ...] = ()


PAGE = Request("GET", "/static-files/index.html")
HEADERS_THAT_MAY_DIFFER = (
    Excuse("content-length", "says how one connection frames the body, which is compared itself", VERSION),
    Excuse("date", "may be of the hop that answers, and of the second in which it does", VERSION),
    Excuse("expires", "is counted from the second in which MLflow answers", PAGE, capabilities=("ui",)),
    Excuse("server", "a proxy may name itself", VERSION),
    Excuse(
        "x-mlflow-gateway-duration-ms",
        "is measured for every answer",
        Request("GET", "/gateway/mlflow/v1/models"),
        capabilities=("gateway",),
    ),
)
OTHER_ANSWERS = (
    Excuse(
        "Assistant API is only accessible from the same host where the MLflow server is running.",
        "MLflow serves its assistant to its own machine alone, and who comes through a proxy may be told not to be on it",
        Request("POST", "/ajax-api/3.0/mlflow/assistant/message", (("X-Forwarded-For", "192.0.2.1"),)),
        path="/ajax-api/3.0/mlflow/assistant/",
    ),
)

# Of one connection (RFC 9110, 7.6.1): a proxy has its own. MLflow on gunicorn writes the first two.
OF_ONE_CONNECTION = ("connection", "keep-alive", "transfer-encoding")

SHOWN = 5  # of what went wrong, in one message
BEFORE_DIFFERENCE, FROM_DIFFERENCE = 40, 160  # bytes shown of bodies that differ
TIMES = 2  # in a row that a difference must come
ATTEMPTS = 10  # to get the same answer from MLflow before and after, while others write


def differences(came: Answer, direct: Answer, *, by_route: bool = False) -> list[str]:
    """Return what of MLflow's own answer did not come through unchanged, or came in addition.

    Args:
        by_route: whether that answer has come by a route, too. Then headers that no client acts by may be of hops on it, such as
            an id of the request, and so may cookies.
    """
    found = []
    if came.status != direct.status:
        found.append(f"the status {direct.status} became {came.status}")
    sent, received = values(direct), values(came)
    may_differ = {*(excuse.what for excuse in HEADERS_THAT_MAY_DIFFER), *OF_ONE_CONNECTION}
    for name in sorted({*sent, *received} - may_differ):
        before, after = _said(name, sent), _said(name, received)
        is_mlflows = not by_route or (name in HEADERS_THAT_MATTER and name != "set-cookie")
        if (is_mlflows and before - after) or any(matters(name, value) for value in after - before):
            found.append(f"the header {name} was {sent.get(name)} and became {received.get(name)}")
    if came.body != direct.body:
        was, became = _from_difference(direct.body, came.body)
        found.append(f"the body was {was} and became {became}")
    return found


def _said(name: str, by_name: Mapping[str, Sequence[str]]) -> set[str]:
    """Return what a header says, in any number of lines: what is said twice is the same. ``Vary`` is a list, which hops add to."""
    lines = by_name.get(name, ())
    return {part.strip() for line in lines for part in line.split(",")} if name == "vary" else set(lines)


def _from_difference(was: bytes, became: bytes) -> tuple[str, str]:
    """Return what both are from shortly before the first byte in which they differ."""
    shortest = min(len(was), len(became))
    first = next((place for place in range(shortest) if was[place] != became[place]), shortest)
    part = slice(max(0, first - BEFORE_DIFFERENCE), first + FROM_DIFFERENCE)
    before = f"{part.start} bytes and " if part.start else ""
    return f"{before}{was[part]!r}", f"{before}{became[part]!r}"


def values(answer: Answer) -> dict[str, list[str]]:
    """Return the values of each header, in the order in which they came."""
    found: dict[str, list[str]] = {}
    for name, value in answer.headers:
        found.setdefault(name.lower(), []).append(value)
    return found


def assert_none_wrong(outcomes: Sequence[str | None]) -> None:
    """Assert that no outcome of many calls is a message of what went wrong."""
    wrong = [outcome for outcome in outcomes if outcome]
    shown = "\n\n".join(wrong[:SHOWN])
    assert not wrong, f"{len(wrong)} of {len(outcomes)} calls went wrong. The first of them:\n\n{shown}"


class Oracle:
    """MLflow itself, whose answers are what has to come through a route. Not safe to use from several threads at once.

    Args:
        truth_wire: a connection to it, or, where it cannot be reached, one with a key through a route.
    """

    def __init__(self, truth_wire: Wire) -> None:
        self._wire = truth_wire
        self._differences = partial(differences, by_route=truth_wire.identity is not None)

    def ask(self, request: Request) -> Answer:
        """Return MLflow's own answer."""
        return self._wire.ask(request)

    def difference(self, request: Request, wire: Wire, expected: Answer | None = None) -> str | None:
        """Say how the answer through a route differs from MLflow's own, or return None if it does not.

        Others may change meanwhile what MLflow answers, and MLflow itself may fail when much is asked of it at once: a difference
        counts if it comes twice in a row, each time between two answers of MLflow's own that are the same.

        Args:
            expected: what MLflow itself has answered a while ago, if it was asked.
        """
        before, times = expected or self.ask(request), 0
        for _ in range(ATTEMPTS):
            came = wire.ask(request)
            if self._is_same(request, came, before) or self._is_same(request, came, after := self.ask(request)):
                return None
            times = 0 if self._differences(after, before) else times + 1
            if times == TIMES:
                wrong = self._differences(came, before)
                return describe(wire, request, came, f"what MLflow itself answers: {before}", wrong)
            before = after
        raise AssertionError(f"MLflow itself answered {request.method} {request.path} in {ATTEMPTS} ways, one after the other")

    def _is_same(self, request: Request, came: Answer, expected: Answer) -> bool:
        excused = any(request.path.startswith(excuse.path) and excuse.what.encode() in came.body for excuse in OTHER_ANSWERS)
        return excused or not self._differences(came, expected)
