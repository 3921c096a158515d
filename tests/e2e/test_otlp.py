"""Traces sent over OTLP, as OpenTelemetry's exporters send them: to a path outside MLflow's API, with MLflow's own headers."""

from __future__ import annotations

import base64
import gzip
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest
from google.protobuf.json_format import MessageToDict
from mlflow import MlflowClient
from mlflow.entities import Trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from mlflow_proxy_e2e.rest import Rest
from mlflow_proxy_e2e.scratch import Scratch

pytestmark = pytest.mark.capability("otlp")

OTLP = "/v1/traces"
PROTOBUF = {"Content-Type": "application/x-protobuf"}
START = 1_700_000_000_123  # milliseconds
DURATION = 333


@dataclass(frozen=True)
class Sent:
    """A trace of two nested spans, with ids of its own."""

    trace_id: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    root_id: bytes = field(default_factory=lambda: secrets.token_bytes(8))

    @property
    def id_in_mlflow(self) -> str:
        """Return the id that MLflow gives to such a trace."""
        return f"tr-{self.trace_id.hex()}"

    def request(self) -> ExportTraceServiceRequest:
        """Return the trace as a message of OpenTelemetry's protocol."""
        question = KeyValue(key="question", value=AnyValue(string_value="größer?"))
        root = Span(name="answer", span_id=self.root_id, attributes=[question])
        spans = [root, Span(name="look up", span_id=secrets.token_bytes(8), parent_span_id=self.root_id)]
        for span in spans:
            span.trace_id = self.trace_id
            span.start_time_unix_nano, span.end_time_unix_nano = START * 10**6, (START + DURATION) * 10**6
        return ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])])


@dataclass(frozen=True)
class Encoding:
    """An encoding of traces, with the headers that announce it."""

    headers: Mapping[str, str]
    encode: Callable[[Sent], bytes]


def _json(sent: Sent) -> bytes:
    """Encode a trace as JSON, where OpenTelemetry, unlike protobuf itself, writes ids as hexadecimal digits."""
    request = MessageToDict(sent.request())
    for span in request["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        span |= {key: base64.b64decode(span[key]).hex() for key in ("traceId", "spanId", "parentSpanId") if key in span}
    return json.dumps(request).encode()


ENCODINGS = {
    "protobuf": Encoding(PROTOBUF, lambda sent: sent.request().SerializeToString()),
    "gzip": Encoding({**PROTOBUF, "Content-Encoding": "gzip"}, lambda sent: gzip.compress(sent.request().SerializeToString())),
    "json": Encoding({"Content-Type": "application/json"}, _json),
}


@pytest.fixture
def destination(truth: MlflowClient, scratch: Scratch) -> str:
    """Return an experiment of the test's own."""
    return truth.create_experiment(scratch.experiment())


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.since("3.12")  # older ones accept neither JSON nor gzip
def test_send_spans(rest: Rest, truth: MlflowClient, destination: str, encoding: str) -> None:
    """Spans sent in any encoding are acknowledged as the protocol specifies, and become a complete trace."""
    sent, how = Sent(), ENCODINGS[encoding]

    answer = rest.post(OTLP, data=how.encode(sent), headers={**how.headers, "x-mlflow-experiment-id": destination})

    # An acknowledgement without reservations is an empty message.
    assert (answer.status_code, answer.headers["Content-Type"], answer.content) == (200, "application/x-protobuf", b"")
    traces = _traces(truth, destination)
    assert [trace.info.trace_id for trace in traces] == [sent.id_in_mlflow]
    assert (traces[0].info.request_time, traces[0].info.execution_duration) == (START, DURATION)
    spans = {span.name: (span.parent_id, span.get_attribute("question")) for span in traces[0].data.spans}
    assert spans == {"answer": (None, "größer?"), "look up": (sent.root_id.hex(), None)}


@pytest.mark.since("3.12")
def test_send_spans_of_run(rest: Rest, truth: MlflowClient, destination: str) -> None:
    """Spans sent with a run's id in a header become a trace of that run."""
    run_id = truth.create_run(destination).info.run_id
    sent = Sent()
    headers = {**PROTOBUF, "x-mlflow-experiment-id": destination, "x-mlflow-run-id": run_id}

    answer = rest.post(OTLP, data=sent.request().SerializeToString(), headers=headers)

    assert answer.status_code == 200
    of_run = truth.search_traces(locations=[destination], run_id=run_id)
    assert [trace.info.trace_id for trace in of_run] == [sent.id_in_mlflow]


class Unreadable(NamedTuple):
    """What is wrong with spans, and the status of MLflow's answer."""

    status: int
    missing_header: str | None = None
    body: bytes | None = None


@pytest.mark.parametrize(
    "unreadable",
    [
        pytest.param(Unreadable(422, missing_header="x-mlflow-experiment-id"), id="no-experiment"),
        pytest.param(Unreadable(400, missing_header="Content-Type"), id="no-type"),
        pytest.param(Unreadable(400, body=b"\xff\xff"), id="no-protobuf"),
    ],
)
def test_refused_spans(rest: Rest, truth: MlflowClient, truth_rest: Rest, destination: str, unreadable: Unreadable) -> None:
    """Spans that MLflow cannot read are refused with its own error, and no trace is created."""
    headers = {**PROTOBUF, "x-mlflow-experiment-id": destination}
    body = unreadable.body or Sent().request().SerializeToString()
    headers.pop(unreadable.missing_header or "", None)

    expected, answer = (caller.post(OTLP, data=body, headers=headers) for caller in (truth_rest, rest))

    assert (answer.status_code, answer.headers["Content-Type"]) == (unreadable.status, expected.headers["Content-Type"])
    assert answer.content == expected.content
    assert _traces(truth, destination) == []


def _traces(truth: MlflowClient, experiment_id: str) -> list[Trace]:
    """Return all traces of an experiment."""
    return list(truth.search_traces(locations=[experiment_id]))
