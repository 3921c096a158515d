"""Traces: recorded by the client, found, tagged and deleted."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import mlflow
import pytest
from mlflow.entities import SpanStatusCode, Trace, TraceState
from mlflow.entities.trace_location import MlflowExperimentLocation
from mlflow.exceptions import MlflowException

from mlflow_proxy_e2e.clients import signed_in
from mlflow_proxy_e2e.scratch import Scratch
from mlflow_proxy_e2e.target import Caller, Identity, Route

pytestmark = pytest.mark.capability("traces")

UNKNOWN = "tr-" + "0" * 32
IN_AN_HOUR = 3600


class Shelf(NamedTuple):
    """An experiment with three traces to be read, in the order in which they came; the first and the last are "fraud"'s."""

    experiment_id: str
    trace_ids: tuple[str, ...]


@pytest.fixture(scope="module")
def shelf(witness: Caller, shared_scratch: Scratch) -> Shelf:
    """Return the traces that tests read and that no test changes."""
    with signed_in(*witness) as mlflow_itself:
        experiment_id = mlflow_itself.create_experiment(shared_scratch.experiment())
    trace_ids = tuple(_trace(witness, experiment_id, {"team": team}) for team in ("fraud", "risk", "fraud"))
    return Shelf(experiment_id, trace_ids)


@pytest.fixture
def destination(witness: Caller, scratch: Scratch) -> MlflowExperimentLocation:
    """Return an experiment of the test's own, as the place that traces are sent to."""
    with signed_in(*witness) as mlflow_itself:
        return MlflowExperimentLocation(mlflow_itself.create_experiment(scratch.experiment()))


@pytest.fixture
def trace_id(witness: Caller, experiment_id: str) -> str:
    """Return a trace of the test's own, tagged."""
    return _trace(witness, experiment_id, {"team": "fraud", "stage": "draft"})


def test_record_spans(route: Route, control: Identity, witness: Caller, destination: MlflowExperimentLocation) -> None:
    """A trace that is recorded through a route is there once, with its spans one below the other and what went in and came out."""
    with signed_in(route, control), mlflow.start_span("answer", "CHAIN", {"model": "größer"}, destination) as answer:
        answer.set_inputs({"question": "What is 50 % of 3?"})
        with mlflow.start_span("look up", "RETRIEVER") as look_up:
            look_up.set_outputs(["1.5", "ü"])
        answer.set_outputs("1.5")

    trace = _only(witness, destination)
    assert (trace.info.trace_id, trace.info.state) == (answer.trace_id, TraceState.OK)
    seen = {span.name: (span.span_type, span.parent_id, span.inputs, span.outputs) for span in trace.data.spans}
    assert seen == {
        "answer": ("CHAIN", None, {"question": "What is 50 % of 3?"}, "1.5"),
        "look up": ("RETRIEVER", answer.span_id, None, ["1.5", "ü"]),
    }
    assert {span.name: span.get_attribute("model") for span in trace.data.spans} == {"answer": "größer", "look up": None}


def test_record_failing_function(route: Route, control: Identity, witness: Caller, destination: MlflowExperimentLocation) -> None:
    """A traced function that raises leaves a trace that says what it was called with and how it failed."""

    @mlflow.trace(trace_destination=destination)
    def divide(a: int, b: int) -> float:
        return a / b

    with signed_in(route, control), pytest.raises(ZeroDivisionError):
        divide(1, b=0)

    trace = _only(witness, destination)
    span = trace.data.spans[0]
    assert (trace.info.state, span.status.status_code) == (TraceState.ERROR, SpanStatusCode.ERROR)
    assert (span.name, span.inputs) == ("divide", {"a": 1, "b": 0})
    assert [event.attributes["exception.type"] for event in span.events if event.attributes] == ["ZeroDivisionError"]


@pytest.mark.capability("artifacts")  # where the trace overtakes its spans, the client keeps them as an artifact as well
def test_record_in_background(
    route: Route, control: Identity, witness: Caller, destination: MlflowExperimentLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trace that is sent in the background, as is the client's default, is there in full once it has been flushed."""
    monkeypatch.delenv("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING")

    with signed_in(route, control):
        with mlflow.start_span("answer", trace_destination=destination), mlflow.start_span("look up"):
            pass
        mlflow.flush_trace_async_logging()

    trace = _only(witness, destination)
    assert {span.name for span in trace.data.spans} == {"answer", "look up"}


def test_record_without_permission(
    route: Route, cannot_write: Identity, control: Identity, witness: Caller, destination: MlflowExperimentLocation
) -> None:
    """An application whose traces are refused runs on as if they were not, and nothing of them is recorded."""

    @mlflow.trace(trace_destination=destination)
    def double(a: int) -> int:
        return 2 * a

    with signed_in(route, control):
        assert double(1) == 2
    permitted = _only(witness, destination)

    with signed_in(route, cannot_write):
        assert double(2) == 4

    assert _only(witness, destination).to_dict() == permitted.to_dict()


def test_traces_of_run(route: Route, control: Identity, witness: Caller, experiment_id: str, trace_id: str) -> None:
    """A trace that is recorded during a run is that run's, and so is one that is linked to it afterwards."""
    with signed_in(route, control) as client:
        with mlflow.start_run(experiment_id=experiment_id) as run, mlflow.start_span("answer") as answer:
            pass
        client.link_traces_to_run([trace_id], run.info.run_id)

    with signed_in(*witness) as mlflow_itself:
        found = mlflow_itself.search_traces(locations=[experiment_id], run_id=run.info.run_id)
    assert {trace.info.trace_id for trace in found} == {answer.trace_id, trace_id}


def test_get_trace(route: Route, control: Identity, witness: Caller, shelf: Shelf) -> None:
    """Whoever may read is told of a trace what MLflow itself tells, spans included."""
    with signed_in(route, control) as client:
        seen = client.get_trace(shelf.trace_ids[0])

    with signed_in(*witness) as mlflow_itself:
        expected = mlflow_itself.get_trace(shelf.trace_ids[0])
    assert seen.to_dict() == expected.to_dict()
    assert [(span.name, span.inputs) for span in seen.data.spans] == [("answer", {"question": "größer?"})]


def test_search_traces(route: Route, control: Identity, shelf: Shelf) -> None:
    """Whoever may read finds exactly the traces that meet a condition, in the order asked for, and with the spans of each."""
    first, _, last = shelf.trace_ids
    search: dict[str, Any] = {"filter_string": "tags.team = 'fraud'", "order_by": ["timestamp_ms DESC"]}

    with signed_in(route, control) as client:
        found = client.search_traces(locations=[shelf.experiment_id], **search)

    assert [trace.info.trace_id for trace in found] == [last, first]
    assert [span.inputs for trace in found for span in trace.data.spans] == [{"question": "größer?"}] * 2


def test_page_traces(route: Route, control: Identity, shelf: Shelf) -> None:
    """The pages of a search follow each other without a gap or a repetition, and end."""
    oldest_first: dict[str, Any] = {"locations": [shelf.experiment_id], "order_by": ["timestamp_ms ASC"], "max_results": 2}

    with signed_in(route, control) as client:
        page = client.search_traces(**oldest_first)
        last_page = client.search_traces(**oldest_first, page_token=page.token)

    assert tuple(trace.info.trace_id for trace in [*page, *last_page]) == shelf.trace_ids
    assert (len(page), len(last_page), last_page.token or None) == (2, 1, None)


def test_tag_trace(route: Route, control: Identity, witness: Caller, trace_id: str) -> None:
    """A tag is set, replaced or deleted, and the others stay as they are."""
    before = _get(witness, trace_id).info.tags

    with signed_in(route, control) as client:
        client.set_trace_tag(trace_id, "reviewed by", "Zoë & co")
        client.set_trace_tag(trace_id, "stage", "final")
        client.delete_trace_tag(trace_id, "team")

    expected = {**before, "reviewed by": "Zoë & co", "stage": "final"}
    del expected["team"]
    assert _get(witness, trace_id).info.tags == expected


def test_delete_traces(route: Route, control: Identity, witness: Caller, destination: MlflowExperimentLocation) -> None:
    """Of an experiment's traces those go that are named, or that are too old, and no others; how many is told."""
    first, second, third = (_trace(witness, destination.experiment_id) for _ in range(3))

    with signed_in(route, control) as client:
        named = client.delete_traces(destination.experiment_id, trace_ids=[second, UNKNOWN])
    assert named == 1
    assert {trace.info.trace_id for trace in _all(witness, destination)} == {first, third}

    with signed_in(route, control) as client:
        latest = round((time.time() + IN_AN_HOUR) * 1000)  # MLflow's clock need not be this machine's
        too_old = client.delete_traces(destination.experiment_id, max_timestamp_millis=latest, max_traces=1)
    assert too_old == 1
    assert [trace.info.trace_id for trace in _all(witness, destination)] == [third]


def test_unknown_trace(route: Route, control: Identity) -> None:
    """Who asks for a trace that is not there is told so, and which."""
    with signed_in(route, control) as client, pytest.raises(MlflowException, match=UNKNOWN) as unknown:
        client.get_trace(UNKNOWN)

    assert unknown.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def _trace(witness: Caller, experiment_id: str, tags: dict[str, str] | None = None) -> str:
    """Have MLflow itself hold a trace of a single span."""
    with signed_in(*witness) as mlflow_itself:
        root = mlflow_itself.start_trace("answer", inputs={"question": "größer?"}, tags=tags, experiment_id=experiment_id)
        mlflow_itself.end_trace(root.trace_id)
    return root.trace_id


def _get(witness: Caller, trace_id: str) -> Trace:
    with signed_in(*witness) as mlflow_itself:
        trace: Trace = mlflow_itself.get_trace(trace_id)
    return trace


def _only(witness: Caller, destination: MlflowExperimentLocation) -> Trace:
    """Return the trace of an experiment that has one. A client that fails to send a trace does not raise: it is not there."""
    traces = _all(witness, destination)
    assert len(traces) == 1
    return traces[0]


def _all(witness: Caller, destination: MlflowExperimentLocation) -> list[Trace]:
    """Return all traces of an experiment."""
    with signed_in(*witness) as mlflow_itself:
        return list(mlflow_itself.search_traces(locations=[destination.experiment_id]))
