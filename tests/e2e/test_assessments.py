"""Assessments: what people and programs say of a trace, and what they expected of it."""

from __future__ import annotations

import mlflow
import pytest
from mlflow.entities import Assessment, AssessmentSource, Expectation, Feedback
from mlflow.exceptions import MlflowException

from mlflow_proxy_e2e.clients import signed_in
from mlflow_proxy_e2e.target import Caller, Identity, Route

pytestmark = pytest.mark.capability("traces")

ZOE = AssessmentSource("HUMAN", "zoe@example.com")
JUDGE = AssessmentSource("LLM_JUDGE", "judge-1")


@pytest.fixture(scope="module")
def assessed(witness: Caller, experiment_id: str) -> Feedback:
    """Return a feedback that no test changes."""
    return _feedback(witness, _trace(witness, experiment_id), "helpful")


@pytest.fixture
def trace_id(witness: Caller, experiment_id: str) -> str:
    """Return a trace of the test's own."""
    return _trace(witness, experiment_id)


@pytest.fixture
def feedback(witness: Caller, trace_id: str) -> Feedback:
    """Return the feedback that a judge gave on the test's own trace."""
    return _feedback(witness, trace_id, "concise")


def test_log_assessments(route: Route, control: Identity, witness: Caller, trace_id: str) -> None:
    """A feedback and an expectation that are logged through a route are the trace's, with who said so, why, and any JSON value."""
    with signed_in(route, control):
        mlflow.log_feedback(
            trace_id=trace_id, name="correct", value=True, source=ZOE, rationale="50 % is größer.", metadata={"form": "a&b"}
        )
        mlflow.log_expectation(trace_id=trace_id, name="answer", value={"parts": [1.5, "ü"]}, source=ZOE)

    correct, answer = sorted(_all(witness, trace_id), key=lambda given: given.name, reverse=True)
    assert isinstance(correct, Feedback)
    assert isinstance(answer, Expectation)
    assert (correct.value, correct.rationale, correct.metadata) == (True, "50 % is größer.", {"form": "a&b"})
    assert answer.value == {"parts": [1.5, "ü"]}
    assert [(given.source.source_type, given.source.source_id) for given in (correct, answer)] == [("HUMAN", "zoe@example.com")] * 2


def test_get_assessment(route: Route, control: Identity, assessed: Feedback) -> None:
    """Whoever may read is told of an assessment what MLflow itself told when it was logged."""
    assert assessed.trace_id
    assert assessed.assessment_id

    with signed_in(route, control):
        seen = mlflow.get_assessment(assessed.trace_id, assessed.assessment_id)

    assert seen == assessed


def test_search_by_feedback(route: Route, control: Identity, experiment_id: str, assessed: Feedback) -> None:
    """Whoever may read finds the traces on which a feedback was given that is looked for, and the feedback with them."""
    with signed_in(route, control) as client:
        found = client.search_traces(locations=[experiment_id], filter_string="feedback.helpful = 'true'", include_spans=False)

    assert [trace.info.trace_id for trace in found] == [assessed.trace_id]
    assert found[0].info.assessments == [assessed]


def test_update_assessment(route: Route, control: Identity, witness: Caller, trace_id: str, feedback: Feedback) -> None:
    """An assessment takes a new value and a new reason, and remains the same assessment."""
    assert feedback.assessment_id

    with signed_in(route, control):
        mlflow.update_assessment(trace_id, feedback.assessment_id, Feedback(name="concise", value=False, rationale="Zu groß."))

    (updated,) = _all(witness, trace_id)
    assert isinstance(updated, Feedback)
    assert (updated.assessment_id, updated.source) == (feedback.assessment_id, feedback.source)
    assert (updated.value, updated.rationale) == (False, "Zu groß.")


def test_override_feedback(route: Route, control: Identity, witness: Caller, trace_id: str, feedback: Feedback) -> None:
    """Who overrides a feedback has it stand beside theirs, which counts, and which gives way to it again when it is deleted."""
    assert feedback.assessment_id

    with signed_in(route, control):
        own = mlflow.override_feedback(trace_id=trace_id, assessment_id=feedback.assessment_id, value=False, source=ZOE)
    assert own.assessment_id
    assert _standing(witness, trace_id) == {
        feedback.assessment_id: (True, False, None),
        own.assessment_id: (False, True, feedback.assessment_id),
    }

    with signed_in(route, control):
        mlflow.delete_assessment(trace_id, own.assessment_id)
    assert _standing(witness, trace_id) == {feedback.assessment_id: (True, True, None)}


def test_delete_assessment(route: Route, control: Identity, witness: Caller, trace_id: str, feedback: Feedback) -> None:
    """An assessment that is deleted is gone from its trace and is not found by its id; others stay."""
    assert feedback.assessment_id
    with signed_in(*witness):
        mlflow.log_expectation(trace_id=trace_id, name="answer", value=1.5)

    with signed_in(route, control):
        mlflow.delete_assessment(trace_id, feedback.assessment_id)

    assert [left.name for left in _all(witness, trace_id)] == ["answer"]
    with signed_in(*witness), pytest.raises(MlflowException) as unknown:
        mlflow.get_assessment(trace_id, feedback.assessment_id)
    assert unknown.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_assess_nothing(route: Route, control: Identity) -> None:
    """Who gives a feedback on a trace that is not there is told so."""
    nowhere = "tr-" + "0" * 32

    with signed_in(route, control), pytest.raises(MlflowException, match=nowhere) as unknown:
        mlflow.log_feedback(trace_id=nowhere, name="correct", value=True)

    assert unknown.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def _trace(witness: Caller, experiment_id: str) -> str:
    with signed_in(*witness) as mlflow_itself:
        root = mlflow_itself.start_trace("answer", experiment_id=experiment_id)
        mlflow_itself.end_trace(root.trace_id)
    return root.trace_id


def _feedback(witness: Caller, trace_id: str, name: str) -> Feedback:
    with signed_in(*witness):
        given = mlflow.log_feedback(trace_id=trace_id, name=name, value=True, source=JUDGE, rationale="Größer.")
    assert isinstance(given, Feedback)
    return given


def _all(witness: Caller, trace_id: str) -> list[Assessment]:
    """Return the assessments of a trace."""
    with signed_in(*witness) as mlflow_itself:
        assessments: list[Assessment] = mlflow_itself.get_trace(trace_id).info.assessments
    return assessments


def _standing(witness: Caller, trace_id: str) -> dict[str | None, tuple[object, bool | None, str | None]]:
    """Return the feedbacks on a trace by their ids: value, whether it counts, and which it overrides."""
    feedbacks = [given for given in _all(witness, trace_id) if isinstance(given, Feedback)]
    return {given.assessment_id: (given.value, given.valid, given.overrides) for given in feedbacks}
