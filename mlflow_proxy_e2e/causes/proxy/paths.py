"""Paths: prefixes that are stripped wrongly, loops, and paths that are changed on the way."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import ALL, ENDPOINTS

LOOP = "508, or a timeout, on every call"

CAUSES = (
    Cause(
        id=CauseId("strip-none"),
        hop="proxy",
        severity="down",
        symptom="404 in MLflow's HTML on every call",
        what="the proxy forwards the public prefix to an MLflow that does not know it",
        remedy="strip the prefix, or start MLflow with --static-prefix",
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("strip-twice"),
        hop="proxy",
        severity="down",
        symptom="404 in MLflow's HTML on every call",
        what="the proxy strips more than its prefix: MLflow gets a path without its first segment",
        remedy="strip only the prefix",
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("proxy-loop"),
        hop="proxy",
        severity="down",
        symptom=LOOP,
        what="the proxy's upstream is the proxy itself",
        remedy="use MLflow's service-discovery name as the upstream",
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("loop-through-edge"),
        hop="proxy",
        severity="down",
        symptom=LOOP,
        what="the proxy's upstream is the public URL, which leads back to the proxy",
        remedy="use MLflow's service-discovery name as the upstream",
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("loop-unnoticed"),
        hop="proxy",
        severity="down",
        symptom="401 on every call with a good key",
        what="the proxy's upstream is the proxy itself, and the key is already removed when the request comes back",
        remedy="use MLflow's service-discovery name as the upstream, and answer 508 to requests that come back",
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("health-shadowed"),
        hop="proxy",
        severity="contract",
        symptom="404 on the proxy's own /health, so that monitoring reports it as down",
        what="a rule for all paths comes before the one for /health and sends it to MLflow",
        remedy="put the rule for /health first",
        reddens=(r"test_health\.py::test_health\[proxy",),
    ),
    Cause(
        id=CauseId("percent-decoded-twice"),
        hop="proxy",
        severity="loss",
        symptom="names with a percent sign arrive changed",
        what="the proxy decodes the path once more often than it encodes it",
        remedy="forward the path unchanged",
        reddens=(
            r"test_fidelity_names\.py",
            r"test_fidelity_requests\.py::test_(query\[.*percent|any_query|query_in_log|text_in_query)",
            r"test_experiments\.py::test_get_experiment",
            r"\[.*-percent",
        ),
    ),
    Cause(
        id=CauseId("slash-decode"),
        hop="proxy",
        severity="loss",
        symptom="artifacts with an escaped slash in their name end up in a folder",
        what="the proxy decodes %2F in paths",
        remedy="forward escaped slashes unchanged",
        reddens=(
            r"test_artifact_names",
            r"test_names_in_headers",
            r"test_bypass_paths\.py.*encoded-slashes",
            r"tag_of_any_key\[.*delimiters",
        ),
    ),
    Cause(
        id=CauseId("path-lowercased"),
        hop="proxy",
        severity="loss",
        symptom="artifacts with capital letters in their name cannot be found",
        what="the proxy converts paths to lower case",
        remedy="forward the path unchanged",
        reddens=(
            r"test_(artifacts|logged_model_artifacts|model_registration|ui_artifacts)\.py::test_(?!name|unknown|refused)",
            r"test_fidelity_names\.py|test_fidelity_requests\.py::test_(any_query|query_in_log|text_in_query)",
            r"test_metrics\.py::test_metric_history\[|test_traces\.py::test_(search|page)|test_smoke\.py::test_\w+_model",
            r"test_registered_models\.py::test_(page|model_name_is_kept\[.*-percent)",
            ENDPOINTS,
        ),
    ),
    Cause(
        id=CauseId("path-cut-at-semicolon"),
        hop="proxy",
        severity="loss",
        symptom="artifact names are cut off at a semicolon",
        what="the proxy takes what follows a semicolon for path parameters and drops it",
        remedy="forward the path unchanged",
        reddens=(
            r"test_artifact_names",
            r"test_names_in_headers",
            r"semicolon",
            r"test_fidelity_requests\.py::test_(any_query|query_in_log|text_in_query)",
            r"test_bypass_paths\.py.*-parameters",
        ),
    ),
)
