"""Traces: recorded by the client, found, tagged and deleted."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import SpanStatusCode, Trace, TraceState
from mlflow.entities.trace_location import MlflowExperimentLocation
from mlflow.exceptions import MlflowException

from mlflow_proxy_e2e.clients import signed_in
from mlflow_proxy_e2e.scratch import Scratch
from mlflow_proxy_e2e.target import Identity, Route, Target

pytestmark = pytest.mark.capability("traces")

UNKNOWN = "tr-" + "0" * 32
IN_AN_HOUR = 3600


class ExistingTraces(NamedTuple):
    """An experiment with three traces, oldest first; the first and the last have the tag team=fraud."""

    experiment_id: str
    trace_ids: tuple[str, ...]


@pytest.fixture(scope="module")
def existing(target: Target, truth: MlflowClient, shared_scratch: Scratch) -> ExistingTraces:
    """Return traces that tests read and no test changes."""
    experiment_id = truth.create_experiment(shared_scratch.experiment())
    trace_ids = tuple(_log_trace(target, experiment_id, {"team": team}) for team in ("fraud", "risk", "fraud"))
    return ExistingTraces(experiment_id, trace_ids)


@pytest.fixture
def destination(truth: MlflowClient, scratch: Scratch) -> MlflowExperimentLocation:
    """Return an experiment of the test's own, as a destination of traces."""
    return MlflowExperimentLocation(truth.create_experiment(scratch.experiment()))


@pytest.fixture
def trace_id(target: Target, experiment_id: str) -> str:
    """Return a trace of the test's own, tagged."""
    return _log_trace(target, experiment_id, {"team": "fraud", "stage": "draft"})


@pytest.mark.usefixtures("signed_in_client")
def test_record_spans(truth: MlflowClient, destination: MlflowExperimentLocation) -> None:
    """A trace recorded through a route exists once, with its nested spans and their inputs and outputs."""
    with mlflow.start_span("answer", "CHAIN", {"model": "größer"}, destination) as answer:
        answer.set_inputs({"question": "What is 50 % of 3?"})
        with mlflow.start_span("look up", "RETRIEVER") as look_up:
            look_up.set_outputs(["1.5", "ü"])
        answer.set_outputs("1.5")

    trace = _only_trace(truth, destination)
    assert (trace.info.trace_id, trace.info.state) == (answer.trace_id, TraceState.OK)
    seen = {span.name: (span.span_type, span.parent_id, span.inputs, span.outputs) for span in trace.data.spans}
    assert seen == {
        "answer": ("CHAIN", None, {"question": "What is 50 % of 3?"}, "1.5"),
        "look up": ("RETRIEVER", answer.span_id, None, ["1.5", "ü"]),
    }
    assert {span.name: span.get_attribute("model") for span in trace.data.spans} == {"answer": "größer", "look up": None}


@pytest.mark.usefixtures("signed_in_client")
def test_record_failing_function(truth: MlflowClient, destination: MlflowExperimentLocation) -> None:
    """A traced function that raises leaves a trace with its arguments and its exception."""

    @mlflow.trace(trace_destination=destination)
    def divide(a: int, b: int) -> float:
        return a / b

    with pytest.raises(ZeroDivisionError):
        divide(1, b=0)

    trace = _only_trace(truth, destination)
    span = trace.data.spans[0]
    assert (trace.info.state, span.status.status_code) == (TraceState.ERROR, SpanStatusCode.ERROR)
    assert (span.name, span.inputs) == ("divide", {"a": 1, "b": 0})
    assert [event.attributes["exception.type"] for event in span.events if event.attributes] == ["ZeroDivisionError"]


@pytest.mark.capability("artifacts")  # if the trace arrives before its spans, the client uploads them as an artifact, too
@pytest.mark.usefixtures("signed_in_client")
def test_record_in_background(truth: MlflowClient, destination: MlflowExperimentLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace sent in the background, as is the client's default, is complete once it has been flushed."""
    monkeypatch.delenv("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING")

    with mlflow.start_span("answer", trace_destination=destination), mlflow.start_span("look up"):
        pass
    mlflow.flush_trace_async_logging()

    trace = _only_trace(truth, destination)
    assert {span.name for span in trace.data.spans} == {"answer", "look up"}


@pytest.mark.usefixtures("signed_in_client")
def test_record_without_permission(
    route: Route, cannot_write: Identity, truth: MlflowClient, destination: MlflowExperimentLocation
) -> None:
    """An application whose traces are refused runs on unaffected, and none of them is recorded."""

    @mlflow.trace(trace_destination=destination)
    def double(a: int) -> int:
        return 2 * a

    assert double(1) == 2
    permitted = _only_trace(truth, destination)

    with signed_in(route, cannot_write):
        assert double(2) == 4

    assert _only_trace(truth, destination).to_dict() == permitted.to_dict()


def test_traces_of_run(signed_in_client: MlflowClient, truth: MlflowClient, experiment_id: str, trace_id: str) -> None:
    """A trace recorded during a run belongs to the run, and so does one that is linked to it afterwards."""
    with mlflow.start_run(experiment_id=experiment_id) as run, mlflow.start_span("answer") as answer:
        pass
    signed_in_client.link_traces_to_run([trace_id], run.info.run_id)

    found = truth.search_traces(locations=[experiment_id], run_id=run.info.run_id)
    assert {trace.info.trace_id for trace in found} == {answer.trace_id, trace_id}


def test_get_trace(client: MlflowClient, truth: MlflowClient, existing: ExistingTraces) -> None:
    """A trace is read exactly as MLflow itself returns it, spans included."""
    seen = client.get_trace(existing.trace_ids[0])

    expected = truth.get_trace(existing.trace_ids[0])
    assert seen.to_dict() == expected.to_dict()
    assert [(span.name, span.inputs) for span in seen.data.spans] == [("answer", {"question": "größer?"})]


def test_search_traces(client: MlflowClient, existing: ExistingTraces) -> None:
    """A search finds exactly the traces that match the filter, in the requested order, each with its spans."""
    first, _, last = existing.trace_ids
    search: dict[str, Any] = {"filter_string": "tags.team = 'fraud'", "order_by": ["timestamp_ms DESC"]}

    found = client.search_traces(locations=[existing.experiment_id], **search)

    assert [trace.info.trace_id for trace in found] == [last, first]
    assert [span.inputs for trace in found for span in trace.data.spans] == [{"question": "größer?"}] * 2


def test_page_traces(client: MlflowClient, existing: ExistingTraces) -> None:
    """The pages of a search have no gaps or repetitions, and come to an end."""
    oldest_first: dict[str, Any] = {"locations": [existing.experiment_id], "order_by": ["timestamp_ms ASC"], "max_results": 2}

    page = client.search_traces(**oldest_first)
    last_page = client.search_traces(**oldest_first, page_token=page.token)

    assert tuple(trace.info.trace_id for trace in [*page, *last_page]) == existing.trace_ids
    assert (len(page), len(last_page), last_page.token or None) == (2, 1, None)


def test_tag_trace(client: MlflowClient, truth: MlflowClient, trace_id: str) -> None:
    """A tag is set, replaced or deleted, and other tags stay unchanged."""
    before = truth.get_trace(trace_id).info.tags

    client.set_trace_tag(trace_id, "reviewed by", "Zoë & co")
    client.set_trace_tag(trace_id, "stage", "final")
    client.delete_trace_tag(trace_id, "team")

    expected = {**before, "reviewed by": "Zoë & co", "stage": "final"}
    del expected["team"]
    assert truth.get_trace(trace_id).info.tags == expected


def test_delete_traces(client: MlflowClient, truth: MlflowClient, target: Target, destination: MlflowExperimentLocation) -> None:
    """Exactly the traces that are named, or too old, are deleted, and the answer says how many."""
    first, second, third = (_log_trace(target, destination.experiment_id) for _ in range(3))

    named = client.delete_traces(destination.experiment_id, trace_ids=[second, UNKNOWN])
    assert named == 1
    assert {trace.info.trace_id for trace in _traces(truth, destination)} == {first, third}

    latest = round((time.time() + IN_AN_HOUR) * 1000)  # MLflow's clock may differ from this machine's
    too_old = client.delete_traces(destination.experiment_id, max_timestamp_millis=latest, max_traces=1)
    assert too_old == 1
    assert [trace.info.trace_id for trace in _traces(truth, destination)] == [third]


def test_unknown_trace(client: MlflowClient) -> None:
    """A request for an unknown trace fails with an error that names it."""
    with pytest.raises(MlflowException, match=UNKNOWN) as unknown:
        client.get_trace(UNKNOWN)

    assert unknown.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def _log_trace(target: Target, experiment_id: str, tags: dict[str, str] | None = None) -> str:
    """Log a trace of a single span to MLflow itself, and return its id."""
    with signed_in(*target.truth) as client:
        root = client.start_trace("answer", inputs={"question": "größer?"}, tags=tags, experiment_id=experiment_id)
        client.end_trace(root.trace_id)
    return root.trace_id


def _only_trace(truth: MlflowClient, destination: MlflowExperimentLocation) -> Trace:
    """Return the only trace of an experiment. A client that fails to send a trace does not raise: the trace is missing."""
    traces = _traces(truth, destination)
    assert len(traces) == 1
    return traces[0]


def _traces(truth: MlflowClient, destination: MlflowExperimentLocation) -> list[Trace]:
    """Return all traces of an experiment."""
    return list(truth.search_traces(locations=[destination.experiment_id]))
