"""Assessments: feedback that people and programs give on a trace, and what they expected of it."""

from __future__ import annotations

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Assessment, AssessmentSource, Expectation, Feedback
from mlflow.exceptions import MlflowException

from mlflow_proxy_e2e.clients import signed_in
from mlflow_proxy_e2e.target import Target

pytestmark = [pytest.mark.capability("traces"), pytest.mark.usefixtures("signed_in_client")]

ZOE = AssessmentSource("HUMAN", "zoe@example.com")
JUDGE = AssessmentSource("LLM_JUDGE", "judge-1")


@pytest.fixture(scope="module")
def assessed(target: Target, experiment_id: str) -> Feedback:
    """Return a feedback that no test changes."""
    return _log_feedback(target, _log_trace(target, experiment_id), "helpful")


@pytest.fixture
def trace_id(target: Target, experiment_id: str) -> str:
    """Return a trace of the test's own."""
    return _log_trace(target, experiment_id)


@pytest.fixture
def feedback(target: Target, trace_id: str) -> Feedback:
    """Return the feedback that a judge gave on the test's own trace."""
    return _log_feedback(target, trace_id, "concise")


def test_log_assessments(truth: MlflowClient, trace_id: str) -> None:
    """A feedback and an expectation logged through a route belong to the trace, with source, rationale and any JSON value."""
    mlflow.log_feedback(
        trace_id=trace_id, name="correct", value=True, source=ZOE, rationale="50 % is größer.", metadata={"form": "a&b"}
    )
    mlflow.log_expectation(trace_id=trace_id, name="answer", value={"parts": [1.5, "ü"]}, source=ZOE)

    correct, answer = sorted(_assessments(truth, trace_id), key=lambda given: given.name, reverse=True)
    assert isinstance(correct, Feedback)
    assert isinstance(answer, Expectation)
    assert (correct.value, correct.rationale, correct.metadata) == (True, "50 % is größer.", {"form": "a&b"})
    assert answer.value == {"parts": [1.5, "ü"]}
    assert [(given.source.source_type, given.source.source_id) for given in (correct, answer)] == [("HUMAN", "zoe@example.com")] * 2


def test_get_assessment(assessed: Feedback) -> None:
    """An assessment is read exactly as MLflow returned it when it was logged."""
    assert assessed.trace_id
    assert assessed.assessment_id

    seen = mlflow.get_assessment(assessed.trace_id, assessed.assessment_id)

    assert seen == assessed


def test_search_by_feedback(client: MlflowClient, experiment_id: str, assessed: Feedback) -> None:
    """Traces are found by the feedback given on them, and carry that feedback."""
    found = client.search_traces(locations=[experiment_id], filter_string="feedback.helpful = 'true'", include_spans=False)

    assert [trace.info.trace_id for trace in found] == [assessed.trace_id]
    assert found[0].info.assessments == [assessed]


def test_update_assessment(truth: MlflowClient, trace_id: str, feedback: Feedback) -> None:
    """An updated assessment has a new value and a new rationale, and keeps its id and its source."""
    assert feedback.assessment_id

    mlflow.update_assessment(trace_id, feedback.assessment_id, Feedback(name="concise", value=False, rationale="Zu groß."))

    (updated,) = _assessments(truth, trace_id)
    assert isinstance(updated, Feedback)
    assert (updated.assessment_id, updated.source) == (feedback.assessment_id, feedback.source)
    assert (updated.value, updated.rationale) == (False, "Zu groß.")


def test_override_feedback(truth: MlflowClient, trace_id: str, feedback: Feedback) -> None:
    """An overriding feedback makes the overridden one invalid; deleting it makes that one valid again."""
    assert feedback.assessment_id

    own = mlflow.override_feedback(trace_id=trace_id, assessment_id=feedback.assessment_id, value=False, source=ZOE)
    assert own.assessment_id
    assert _feedbacks(truth, trace_id) == {
        feedback.assessment_id: (True, False, None),
        own.assessment_id: (False, True, feedback.assessment_id),
    }

    mlflow.delete_assessment(trace_id, own.assessment_id)
    assert _feedbacks(truth, trace_id) == {feedback.assessment_id: (True, True, None)}


def test_delete_assessment(truth: MlflowClient, target: Target, trace_id: str, feedback: Feedback) -> None:
    """A deleted assessment is gone from its trace and is not found by its id; others stay."""
    assert feedback.assessment_id
    with signed_in(*target.truth):
        mlflow.log_expectation(trace_id=trace_id, name="answer", value=1.5)

    mlflow.delete_assessment(trace_id, feedback.assessment_id)

    assert [left.name for left in _assessments(truth, trace_id)] == ["answer"]
    with signed_in(*target.truth), pytest.raises(MlflowException) as unknown:
        mlflow.get_assessment(trace_id, feedback.assessment_id)
    assert unknown.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_assess_nothing() -> None:
    """Feedback on an unknown trace is refused with an error that names the trace."""
    unknown_id = "tr-" + "0" * 32

    with pytest.raises(MlflowException, match=unknown_id) as unknown:
        mlflow.log_feedback(trace_id=unknown_id, name="correct", value=True)

    assert unknown.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def _log_trace(target: Target, experiment_id: str) -> str:
    with signed_in(*target.truth) as client:
        root = client.start_trace("answer", experiment_id=experiment_id)
        client.end_trace(root.trace_id)
    return root.trace_id


def _log_feedback(target: Target, trace_id: str, name: str) -> Feedback:
    with signed_in(*target.truth):
        given = mlflow.log_feedback(trace_id=trace_id, name=name, value=True, source=JUDGE, rationale="Größer.")
    assert isinstance(given, Feedback)
    return given


def _assessments(truth: MlflowClient, trace_id: str) -> list[Assessment]:
    """Return the assessments of a trace."""
    assessments: list[Assessment] = truth.get_trace(trace_id).info.assessments
    return assessments


def _feedbacks(truth: MlflowClient, trace_id: str) -> dict[str | None, tuple[object, bool | None, str | None]]:
    """Return the feedbacks on a trace by their ids: value, whether it is valid, and which it overrides."""
    feedbacks = [given for given in _assessments(truth, trace_id) if isinstance(given, Feedback)]
    return {given.assessment_id: (given.value, given.valid, given.overrides) for given in feedbacks}
