"""MLflow answers through a route as it does directly: in a conversation of writes and reads, call by call, byte by byte."""

from __future__ import annotations

import pytest

from mlflow_proxy_e2e.checks.conversations import CAPABILITY_OF, CONVERSATIONS, Step, anonymous, hold
from mlflow_proxy_e2e.checks.oracle import HEADERS_THAT_MAY_DIFFER, OTHER_ANSWERS, Excuse, Oracle, assert_none_wrong, differences
from mlflow_proxy_e2e.scratch import Scratch
from mlflow_proxy_e2e.wire import Answer, Request, Wire, describe

each_conversation = pytest.mark.parametrize(
    "subject",
    [
        pytest.param(subject, marks=pytest.mark.capability(CAPABILITY_OF[subject]) if subject in CAPABILITY_OF else ())
        for subject in CONVERSATIONS
    ],
)


@pytest.fixture
def oracle(direct_wire: Wire) -> Oracle:
    """Return MLflow itself, to compare answers with."""
    return Oracle(direct_wire)


@each_conversation
def test_conversation(subject: str, wire: Wire, oracle: Oracle, scratch: Scratch) -> None:
    """The same calls get the same answers through a route and directly, and every read gets the same answer, to the byte."""
    kind, steps = CONVERSATIONS[subject]
    names = [scratch.experiment() if kind == "experiment" else scratch.model() for _ in range(2)]
    wrong: list[str | None] = []

    def ask(step: Step, request: Request) -> Answer:
        if step.reads:
            wrong.append(oracle.difference(request, wire))
        return wire.ask(request)

    held = list(hold(steps, names[0], ask))
    expected = list(hold(steps, names[1], lambda _, request: oracle.ask(request)))
    for (_, request, came, known), (_, _, answer, known_there) in zip(held, expected, strict=True):
        was, became = (anonymous(each, known, known_there) for each in (answer, came))
        if found := differences(became, was):
            wrong.append(describe(wire, request, became, f"what MLflow itself answers in the same place: {was}", found))

    assert_none_wrong(wrong)


@pytest.mark.parametrize(
    "excuse",
    [pytest.param(e, id=e.what, marks=pytest.mark.capability(*e.capabilities)) for e in HEADERS_THAT_MAY_DIFFER],
)
def test_header_that_may_differ_is_there(excuse: Excuse, oracle: Oracle) -> None:
    """Every excused difference still occurs: no excuse outlives its reason."""
    assert oracle.ask(excuse.shown_by).header(excuse.what)


@pytest.mark.capability("ui")
@pytest.mark.parametrize("excuse", OTHER_ANSWERS, ids=lambda excuse: excuse.path)
@pytest.mark.since("3.12")  # older ones have no assistant
def test_other_answer_occurs(excuse: Excuse, oracle: Oracle) -> None:
    """Every excused difference still occurs: no excuse outlives its reason."""
    assert excuse.what in oracle.ask(excuse.shown_by).json()["detail"]
