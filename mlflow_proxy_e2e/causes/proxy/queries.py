"""Queries that do not reach MLflow as they were sent."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import CONVERSATIONS

CAUSES = (
    Cause(
        id=CauseId("query-dropped"),
        hop="proxy",
        severity="down",
        symptom="calls with a query fail, or list everything",
        what="the proxy forwards the path without the query",
        remedy="forward the query string unchanged",
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
    ),
    Cause(
        id=CauseId("query-collapse"),
        hop="proxy",
        severity="loss",
        symptom="part of the data is missing where a parameter is sent several times",
        what="the proxy rebuilds the query and keeps only one value of each parameter",
        remedy="forward the query string unchanged",
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
        reddens=(
            r"test_query\[.*-blank-and-value",
            r"test_(any_query|query_in_log)",
        ),
    ),
    Cause(
        id=CauseId("plus-decoded"),
        hop="proxy",
        severity="loss",
        symptom="names with a plus sign arrive with a space",
        what="the proxy decodes %2B in the query and does not encode it again",
        remedy="forward the query string unchanged",
        reddens=(
            r"test_(any_query|query_in_log|text_in_query|metric_keys|experiment_names|registered_model_names)",
            r"test_query\[.*-plus",
            r"test_experiments\.py::test_get_experiment",
        ),
    ),
)
