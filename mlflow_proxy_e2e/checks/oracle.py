"""A route must not change MLflow's answers: comparison of an answer with MLflow's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from mlflow_proxy_e2e.version import VERSION
from mlflow_proxy_e2e.wire import HEADERS_THAT_MATTER, Answer, Request, Wire, describe, kind_of, matters


class Excuse(NamedTuple):
    """Why a part of MLflow's answers may differ through a route, and a request whose answer shows that.

    Args:
        what: the name of a header, or a part of a body.
        path: the prefix of the paths that it applies to.
        capabilities: the capabilities that the request needs.
    """

    what: str
    reason: str
    shown_by: Request
    path: str = "/"
    capabilities: tuple[str, ...] = ()


PAGE = Request("GET", "/static-files/index.html")
HEADERS_THAT_MAY_DIFFER = (
    Excuse("content-length", "describes how one connection frames the body, which is compared itself", VERSION),
    Excuse("date", "is set by the hop that answers, at that moment", VERSION),
    Excuse("expires", "is relative to the time of MLflow's answer", PAGE, capabilities=("ui",)),
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
        "MLflow serves its assistant only to its own machine, and may find that a call through a proxy is not from there",
        Request("POST", "/ajax-api/3.0/mlflow/assistant/message", (("X-Forwarded-For", "192.0.2.1"),)),
        path="/ajax-api/3.0/mlflow/assistant/",
    ),
)

# Of one connection (RFC 9110, 7.6.1): a proxy sets its own. MLflow on gunicorn sends the first two.
OF_ONE_CONNECTION = ("connection", "keep-alive", "transfer-encoding")

SHOWN = 8  # kinds of problem listed in one message
BEFORE_DIFFERENCE, FROM_DIFFERENCE = 40, 160  # bytes shown of bodies that differ
TIMES = 2  # consecutive times that a difference must show
ATTEMPTS = 10  # to get two equal answers from MLflow, before and after, while other tests write


def differences(came: Answer, direct: Answer, *, by_route: bool = False) -> list[str]:
    """Return how the answer differs from MLflow's own.

    Args:
        by_route: whether MLflow's own answer came through a route as well. Then hops may have set headers that no client acts on,
            such as a request id, and cookies.
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
    """Return the values of a header, which are the same if repeated. ``Vary`` is a list, to which hops add."""
    lines = by_name.get(name, ())
    return {part.strip() for line in lines for part in line.split(",")} if name == "vary" else set(lines)


def _from_difference(was: bytes, became: bytes) -> tuple[str, str]:
    """Return both from shortly before the first byte that differs."""
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
    """Assert that no call of many went wrong; each outcome is an error message or None. Shows one example of each kind."""
    wrong = [outcome for outcome in outcomes if outcome]
    kinds: dict[str, list[str]] = {}
    for message in wrong:
        kinds.setdefault(kind_of(message), []).append(message)
    most = sorted(kinds.values(), key=len, reverse=True)[:SHOWN]
    shown = "\n\n".join(f"{len(messages)} like this:\n{messages[0]}" for messages in most)
    ways = "one way" if len(kinds) == 1 else f"{len(kinds)} ways"
    assert not wrong, f"{len(wrong)} of {len(outcomes)} calls went wrong, in {ways}.\n\n{shown}"


class Oracle:
    """MLflow itself, whose answers must come through a route unchanged. Not safe to use from several threads at once.

    Args:
        truth_wire: a connection to MLflow or, if it cannot be reached, one with a trusted key through a route.
    """

    def __init__(self, truth_wire: Wire) -> None:
        self._wire = truth_wire
        self._differences = partial(differences, by_route=truth_wire.identity is not None)

    def ask(self, request: Request) -> Answer:
        """Return MLflow's own answer."""
        return self._wire.ask(request)

    def difference(self, request: Request, wire: Wire, expected: Answer | None = None) -> str | None:
        """Return how the answer through a route differs from MLflow's own, or None if it does not.

        MLflow's answer may change as other tests write, and MLflow itself may fail under load: a difference counts if it shows
        twice in a row, each time between two equal answers of MLflow's own.

        Args:
            expected: MLflow's own earlier answer, if there is one.
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
        raise AssertionError(f"MLflow itself answered {request.method} {request.path} in {ATTEMPTS} different ways in a row")

    def _is_same(self, request: Request, came: Answer, expected: Answer) -> bool:
        excused = any(request.path.startswith(excuse.path) and excuse.what.encode() in came.body for excuse in OTHER_ANSWERS)
        return excused or not self._differences(came, expected)
