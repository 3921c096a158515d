"""Queries that do not reach MLflow as they were sent."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.facts.comparisons import (
    differs,
    in_sandbox,
    repeats,
    unless,
)
from mlflow_proxy_e2e.facts.facts import READ, Facts
from mlflow_proxy_e2e.facts.question import Reply
from mlflow_proxy_e2e.facts.sandbox import Sandbox, get
from mlflow_proxy_e2e.facts.sign import needing, on_routes
from mlflow_proxy_e2e.facts.stopped import (
    status,
    stops,
)
from mlflow_proxy_e2e.target import Route
from mlflow_proxy_e2e.wire import JSON, Request

SEARCH = Request("POST", READ.path.partition("?")[0], JSON, b'{"max_results": 1}')  # the same read without a query


def _history(facts: Facts, route: Route, own: Sandbox) -> Reply | None:
    """The history of a metric of two runs, asked for by a parameter that is sent twice."""
    ids = "&".join(f"run_id={run_id}" for run_id in own.run_ids)
    request = Request("GET", f"/ajax-api/2.0/mlflow/metrics/get-history-bulk?{ids}&metric_key=m")

    def has_both(reply: Reply) -> bool:
        return reply.status != 200 or all(run_id.encode() in reply.body for run_id in own.run_ids)

    return unless(request, has_both)(facts, route)


fails_with_query = status(400) & stops(lambda facts, seen: facts.ask(seen.route, SEARCH).works)


CAUSES = (
    Cause(
        id=CauseId("query-dropped"),
        hop="proxy",
        severity="down",
        symptom="calls with a query fail, or list everything",
        what="the proxy forwards the path without the query",
        remedy="forward the query string unchanged",
        shows=fails_with_query | on_routes(unless(get("experiments/get-by-name?experiment_name=no-such-x"), repeats("no-such-x"))),
        reddens=(r".",),
    ),
    Cause(
        id=CauseId("query-collapse"),
        hop="proxy",
        severity="loss",
        symptom="part of the data is missing where a parameter is sent several times",
        what="the proxy rebuilds the query and keeps only one value of each parameter",
        remedy="forward the query string unchanged",
        shows=needing("ui") & in_sandbox(_history),
        explains=(CauseId("blank-parameters-dropped"),),
        reddens=(r"several_runs",),
    ),
    Cause(
        id=CauseId("blank-parameters-dropped"),
        hop="proxy",
        severity="loss",
        symptom="parameters without a value are lost",
        what="the proxy rebuilds the query without its empty parameters",
        remedy="forward the query string unchanged",
        shows=on_routes(differs(get("experiments/get-by-name?experiment_name=&experiment_name=no"), lambda reply: reply.body)),
        reddens=(r"blank-and-value",),
    ),
    Cause(
        id=CauseId("plus-decoded"),
        hop="proxy",
        severity="loss",
        symptom="names with a plus sign arrive with a space",
        what="the proxy decodes %2B in the query and does not encode it again",
        remedy="forward the query string unchanged",
        shows=on_routes(unless(get("experiments/get-by-name?experiment_name=no-such-x%2By"), repeats("x+y"))),
        reddens=(r"test_text_in_query",),
    ),
)
