"""Queries that do not reach MLflow unchanged."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import CONVERSATIONS
from mlflow_proxy_e2e.causes.snippets import AS_SENT, snippets
from mlflow_proxy_e2e.facts.comparisons import MLFLOWS_CODES, in_sandbox, lacks, repeats, unless
from mlflow_proxy_e2e.facts.facts import READ, Facts
from mlflow_proxy_e2e.facts.question import Reply
from mlflow_proxy_e2e.facts.sandbox import Sandbox, get
from mlflow_proxy_e2e.facts.sign import needing, on_routes
from mlflow_proxy_e2e.facts.stopped import status, stops
from mlflow_proxy_e2e.target import Route
from mlflow_proxy_e2e.wire import JSON, Request

SEARCH = Request("POST", READ.path.partition("?")[0], JSON, b'{"max_results": 1}')  # the same read without a query


def _history(facts: Facts, route: Route, own: Sandbox) -> Reply | None:
    """The metric history of two runs, requested by a parameter that is sent twice."""
    ids = "&".join(f"run_id={run_id}" for run_id in own.run_ids)
    request = Request("GET", f"/ajax-api/2.0/mlflow/metrics/get-history-bulk?{ids}&metric_key=m")

    def has_both(reply: Reply) -> bool:
        return reply.status != 200 or all(run_id.encode() in reply.body for run_id in own.run_ids)

    return unless(request, has_both)(facts, route)


def _blank(facts: Facts, route: Route) -> Reply | None:
    """A parameter that is sent twice, once without a value: MLflow's error message shows which one it used."""
    request = get("experiments/get-by-name?experiment_name=&experiment_name=no")
    reply = facts.difference(request, None, _error, route)
    return reply if reply and reply.status in (400, 404) and reply.error_code in MLFLOWS_CODES else None


def _error(reply: Reply) -> object:
    """Return what an error says, however its JSON is written."""
    return (reply.status, reply.json() if reply.error_code else reply.body)


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
        reddens=(
            r"test_(across_routes|artifacts|bypass_\w+|every_endpoint|key_lifetime|model_registration|own_client|ui_artifacts)\.py",
            r"test_(metrics|prompts|registered_models|smoke|traces)\.py::(?!test_(denied|record|delete_traces|tag_trace))",
            r"test_denials\.py.*-(get-(experiment|run|registered-model|model-version|scorer)|\w+-artifact-from-page|list-prompts)\]",
            r"test_denials\.py::test_(client_raises_denied_read|denied_(key|options|bad_bearer)|good_bearer)",
            r"test_experiments\.py::test_get_|test_(runs|scorers|webhooks)\.py::test_(get|list|page|unknown|update)_",
            r"test_fidelity_(connections|names)\.py|test_fidelity_requests\.py::test_(any_query|query|text_in_query|many_headers)",
            r"test_fidelity_(json\.py::test_answer|transfer\.py::test_(coded_answer|head|names_in_headers))",
            rf"{CONVERSATIONS}|test_gateway\.py::test_(look_up\[.*provider|look_up_one|unknown)",
            r"::test_(merge_trace|failed_write_is_forwarded_once|list_and_download|client_falls_back|others_during_upload)",
        ),
        fixes=AS_SENT,
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
        reddens=(
            r"test_query\[.*-(twice|blank-and-value|value-and-blank)",
            r"test_(any_query|query_in_log)",
            r"several_runs|order_model_versions",
            r"test_traces\.py::test_(search|page)",
        ),
    ),
    Cause(
        id=CauseId("blank-parameters-dropped"),
        hop="proxy",
        severity="loss",
        symptom="parameters without a value are lost",
        what="the proxy rebuilds the query without its empty parameters",
        remedy="forward the query string unchanged",
        shows=on_routes(_blank),
        reddens=(
            r"test_query\[.*-blank-and-value",
            r"test_(any_query|query_in_log)",
        ),
    ),
    Cause(
        id=CauseId("query-encoded-twice"),
        hop="proxy",
        severity="loss",
        symptom="names with a space or another escaped character are not found, or are stored with %20 in them",
        what="the proxy treats the query string as decoded, and encodes it a second time",
        remedy="forward the query string unchanged",
        shows=on_routes(unless(get("experiments/get-by-name?experiment_name=no-such-x%20y"), lacks("x%20y"))),
        reddens=(
            r"test_(any_query|query_in_log|text_in_query|metric_keys|experiment_names|registered_model_names)",
            r"test_query\[.*-(escaped|not-utf-8|plus)",
            r"test_experiments\.py::test_get_experiment|\[.*-percent",
            r"test_fidelity_names\.py",
        ),
        fixes=snippets(nginx=AS_SENT["nginx"]),
    ),
    Cause(
        id=CauseId("plus-decoded"),
        hop="proxy",
        severity="loss",
        symptom="names with a plus sign arrive with a space",
        what="the proxy decodes %2B in the query and does not encode it again",
        remedy="forward the query string unchanged",
        shows=on_routes(unless(get("experiments/get-by-name?experiment_name=no-such-x%2By"), lacks("x y"))),
        reddens=(
            r"test_(any_query|query_in_log|text_in_query|metric_keys|experiment_names|registered_model_names)",
            r"test_query\[.*-plus",
            r"test_experiments\.py::test_get_experiment",
        ),
        fixes=snippets(nginx=AS_SENT["nginx"]),
    ),
)
