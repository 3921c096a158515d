"""Which e2e tests each fault turns red."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fixtures.faults.catalogue import FAULTS

E2E = "tests/e2e"
READ = (f"{E2E}/test_experiments.py::test_get_experiment",)
CALLS = (f"{E2E}/test_denials.py::test_read",)
EVERY = f"{E2E}/test_every_endpoint.py::test_who_may_call"
VERBS = f"{E2E}/test_every_endpoint.py::test_verbs_that_endpoints_do_not_have"
CONVERSATION = f"{E2E}/test_same_answers.py::test_conversation"
PATHS, HEADERS, KEYS = (f"{E2E}/test_bypass_{subject}.py" for subject in ("paths", "headers", "keys"))
NAMES, JSON = (f"{E2E}/test_fidelity_{subject}.py" for subject in ("names", "json"))
REQUESTS, TRANSFER = (f"{E2E}/test_fidelity_{subject}.py" for subject in ("requests", "transfer"))
LIFETIME, SECRETS = (f"{E2E}/test_{subject}.py" for subject in ("key_lifetime", "secrets"))

REFUSED = ("anonymous", "expired", "malformed", "other-service", "revoked", "throttled", "unknown")
KEYLESS = "anonymous|expired|malformed|revoked|unknown"
DENIED = tuple(f"{E2E}/test_denials.py::test_denied_read[internal-{who}-bearer-get-experiment]" for who in REFUSED)
DENIED_WRITE = tuple(f"{E2E}/test_denials.py::test_denied_write[internal-{who}-bearer-log-metric]" for who in ("reader", *REFUSED))
KEYLESS_READS = tuple(
    f"{E2E}/test_denials.py::test_denied_read[internal-anonymous-{call}]" for call in ("bearer-get-run", "x-api-key-query-graphql")
)
ONE_CALL = (f"{REQUESTS}::test_query[internal-twice]",)  # which every outage turns red


def reads(*names: str) -> tuple[str, ...]:
    """Return the reads of those names, by one who may read."""
    return tuple(f"{E2E}/test_denials.py::test_read[internal-reader-{name}]" for name in names)


class Detection(NamedTuple):
    """Which e2e tests are run on the faulty system, and a pattern of the ids that turn red. All others must stay green."""

    tests: tuple[str, ...]
    red: str


EDGE = {
    "rule-straight-to-mlflow": Detection(READ, "external"),
    "rule-to-wrong-service": Detection(READ, "external"),
    "tls-hostname": Detection(READ, "external"),
    "tls-expired": Detection(READ, "external"),
    "tls-chain": Detection(READ, "external"),
    "tls-missing": Detection(READ, "external"),
    "tls-listener-ruleless": Detection(READ, "external"),
    "edge-strip-none": Detection(READ, "external"),
    "edge-strip-twice": Detection(READ, "external"),
    "api-ajax-split": Detection((f"{EVERY}[external-ajax-api-2.0]", *READ), "ajax-api"),
    "api-unrouted": Detection((f"{E2E}/test_ui.py::test_search_jobs", *READ), "get_experiment.external"),
    "v3-unrouted": Detection((f"{EVERY}[external-api-3.0]", *READ), "api-3"),
    "otlp-unrouted": Detection((f"{E2E}/test_otlp.py::test_send_spans", *READ), "send_spans.external"),
    "artifacts-unrouted": Detection((f"{E2E}/test_artifacts.py::test_delete_artifact", *READ), "artifact.external"),
    "ui-blank-under-prefix": Detection((f"{E2E}/test_ui.py::test_asset", *READ), "asset.external"),
    "catchall-to-mlflow": Detection(
        (f"{PATHS}::test_odd_path_without_key[external-prefixes]", f"{E2E}/test_denials.py::test_path_without_rule", *READ),
        "prefixes|without_rule.external",
    ),
    "edge-health-shadowed": Detection((f"{E2E}/test_health.py::test_health", *READ), "edge"),
    "redirect-post-to-get": Detection((f"{E2E}/test_experiments.py::test_create_experiment", *READ), "create_experiment.external"),
    "redirect-drops-auth": Detection(READ, "external"),
    "sso-login": Detection(READ, "external"),
    "auth-stripped": Detection(CALLS, "external.*bearer"),
    "edge-port-refused": Detection(READ, "external"),
    "edge-connect-timeout": Detection(READ, "external"),
    "edge-upstream-silent": Detection(READ, "external"),
    "no-healthy-target": Detection(READ, "external"),
    "health-path-mismatch": Detection(READ, "external"),
    "health-behind-auth": Detection(READ, "external"),
    "idle-timeout": Detection((f"{E2E}/test_slow_calls.py::test_upload_with_pause", *READ), "upload_with_pause.external"),
    "edge-timeout-too-short": Detection(
        (f"{E2E}/test_slow_calls.py::test_download_with_pause", *READ), "download_with_pause.external"
    ),
    "edge-body-size-limit": Detection((f"{E2E}/test_artifacts.py::test_large_file", *READ), "large_file.external"),
    "waf-blocks": Detection((f"{E2E}/test_experiments.py::test_search_experiments", *READ), "search_experiments.external"),
    "edge-keep-alive-off": Detection(
        (f"{E2E}/test_fidelity_connections.py::test_same_connection_is_used", *READ), "connection_is_used.external"
    ),
}
LOCATION = (f"{E2E}/test_experiments.py::test_default_artifact_location", *READ)
CREATE = f"{E2E}/test_experiments.py::test_create_experiment[external-writer]"
UNKNOWN = f"{E2E}/test_experiments.py::test_get_unknown_experiment"
WAITS = f"{E2E}/test_slow_calls.py::test_others_during_upload"
MLFLOW = {
    "artifacts-disabled": Detection(LOCATION, "artifact_location"),
    "artifacts-only": Detection(READ, ""),
    "direct-store": Detection(LOCATION, "artifact_location"),
    "artifact-host-fixed": Detection(LOCATION, "artifact_location"),
    "artifact-store-missing": Detection((f"{E2E}/test_artifacts.py::test_upload", *READ), "upload"),
    "disk-full": Detection((f"{E2E}/test_artifacts.py::test_large_file", *READ), "large"),
    "host-403": Detection(READ, ""),
    "static-prefix-mismatch": Detection(READ, ""),
    "native-routes-missing": Detection((f"{E2E}/test_otlp.py::test_send_spans", WAITS, *READ), "send_spans"),
    "too-few-workers": Detection((WAITS, *READ), "others_during_upload"),
    "replica-split": Detection((f"{E2E}/test_fidelity_connections.py::test_what_is_written_is_read_every_time",), "every_time"),
    "replica-version-skew": Detection((f"{E2E}/test_fidelity_connections.py::test_same_mlflow_every_time", *READ), "same_mlflow"),
    "client-skew": Detection((f"{E2E}/test_logged_models.py::test_create_logged_model", *READ), "logged_model"),
    "database-read-only": Detection((CREATE, UNKNOWN), "create_experiment"),
    "database-locked": Detection((CREATE, UNKNOWN), "create_experiment"),
    "mlflow-down": Detection(READ, ""),
    "mlflow-silent": Detection((f"{E2E}/test_traces.py::test_unknown_trace",), ""),
}
OWN_CLIENT = (f"{E2E}/test_own_client.py::test_write_and_read", *READ)
CLIENT = {
    "basic-shadows-bearer": Detection(OWN_CLIENT, "write_and_read"),
    "netrc-override": Detection(OWN_CLIENT, "write_and_read"),
    "env-proxy": Detection(OWN_CLIENT, "write_and_read"),
    "registry-elsewhere": Detection((f"{E2E}/test_own_client.py", *READ), "register_model"),
    "tls-settings-conflict": Detection(OWN_CLIENT, "write_and_read.external"),
    "client-timeout-zero": Detection(OWN_CLIENT, "write_and_read"),
    "retry-hang": Detection((f"{E2E}/test_own_client.py::test_nobody_answers", *READ), "nobody_answers"),
    "workspace-set": Detection(OWN_CLIENT, "write_and_read"),
}

DETECTED_BY: Mapping[str, Detection] = {
    **EDGE,
    **MLFLOW,
    **CLIENT,
    "key-check-off": Detection(DENIED, ""),
    "strip-none": Detection(ONE_CALL, ""),
    "proxy-loop": Detection(ONE_CALL, ""),
    "port-refused": Detection(ONE_CALL, ""),
    "carrier-ignored": Detection(reads("bearer-get-run", "x-api-key-get-run"), "x-api-key"),
    "query-collapse": Detection((f"{E2E}/test_metrics.py::test_metric_history_of_several_runs", *READ), "several_runs"),
    "error-shape": Detection((f"{E2E}/test_experiments.py::test_get_unknown_experiment", *READ), "unknown"),
    "method-filter": Detection((f"{E2E}/test_registered_models.py::test_delete_registered_model", *READ), "delete"),
    "scope-not-checked": Detection(DENIED_WRITE, "reader"),
    "read-key-denied-read": Detection(reads("bearer-get-run", "bearer-search-runs", "x-api-key-query-graphql"), "search|graphql"),
    "revocation-ignored": Detection(DENIED, "revoked"),
    "expiry-ignored": Detection(DENIED, "expired"),
    "rate-limit-not-enforced": Detection(DENIED, "throttled"),
    "ratelimit-as-401": Detection(DENIED, "throttled"),
    "service-not-checked": Detection(DENIED, "other-service"),
    "key-prefix-match": Detection((f"{KEYS}::test_like_a_key",), ""),
    "key-case-ignored": Detection((f"{KEYS}::test_like_a_key",), ""),
    # Proxies that let in.
    "ajax-api-unguarded": Detection((f"{EVERY}[internal-ajax-api-2.0]", f"{EVERY}[internal-api-2.0]"), "ajax-api"),
    "family-hole": Detection((f"{EVERY}[internal-other]", f"{EVERY}[internal-api-2.0]"), "other"),
    "health-unguarded-anywhere": Detection((f"{PATHS}::test_odd_path_without_key",), "exempt"),
    "head-unguarded": Detection((f"{VERBS}[internal-other]", *READ), "other"),
    "options-for-all": Detection((f"{E2E}/test_denials.py::test_denied_options", *READ), "options"),
    "other-verbs-unguarded": Detection((f"{VERBS}[internal-other]", *READ), "other"),
    "hop-header-trusted": Detection((f"{HEADERS}::test_named_caller_without_key", *READ), "odd"),
    "identity-header-trusted": Detection((f"{HEADERS}::test_named_caller_without_key", *READ), "named"),
    "original-url-honoured": Detection((f"{HEADERS}::test_path_in_header_of_denied_write", *READ), "path_in_header"),
    "method-override-honoured": Detection((f"{HEADERS}::test_method_of_denied_delete", *READ), "method_of"),
    "last-key-counts": Detection((f"{KEYS}::test_like_a_key", *READ), "like_a_key.*bearer"),
    "key-in-query-accepted": Detection((f"{KEYS}::test_key_in_query", *READ), "key_in_query"),
    "forwarded-before-check": Detection((f"{EVERY}[internal-other]", *READ), "other"),
    "denial-in-other-shape": Detection((*DENIED, *READ), KEYLESS),
    "login-redirect": Detection((*DENIED, *READ), KEYLESS),
    "challenge-missing": Detection((*DENIED, *READ), KEYLESS),
    "retry-after-missing": Detection((*DENIED, *READ), "throttled"),
    # Proxies that change what they forward.
    "query-dropped": Detection((f"{REQUESTS}::test_text_in_query", *READ), ""),
    "blank-parameters-dropped": Detection((f"{REQUESTS}::test_query",), "blank-and-value"),
    "plus-decoded": Detection((f"{REQUESTS}::test_text_in_query", *READ), ""),
    "percent-decoded-twice": Detection((f"{REQUESTS}::test_text_in_query", *READ), ""),
    "slash-decode": Detection((f"{NAMES}::test_artifact_names", *READ), "artifact"),
    "path-lowercased": Detection((f"{NAMES}::test_artifact_names", *READ), "artifact"),
    "path-cut-at-semicolon": Detection((f"{NAMES}::test_artifact_names", *READ), "artifact"),
    "delete-body-dropped": Detection((f"{REQUESTS}::test_patch_and_delete_with_body", *READ), "delete"),
    "chunked-refused": Detection((f"{TRANSFER}::test_chunked_upload", *READ), "chunked"),
    "compressed-refused": Detection((f"{TRANSFER}::test_coded_request", *READ), "coded"),
    "long-query-refused": Detection((f"{REQUESTS}::test_query",), "long"),
    "head-refused": Detection((f"{TRANSFER}::test_head", *READ), "head"),
    "range-dropped": Detection((f"{TRANSFER}::test_range", *READ), "range"),
    "conditions-dropped": Detection((f"{TRANSFER}::test_conditional_request",), "none|modified"),
    "disposition-dropped": Detection((f"{TRANSFER}::test_names_in_headers", *READ), "names"),
    "charset-changed": Detection((f"{CONVERSATION}",), ""),
    "cors-opened": Detection((CONVERSATION, f"{SECRETS}::test_no_answer_is_for_others_pages", *READ), "conversation|pages"),
    "json-rewritten": Detection((f"{CONVERSATION}",), ""),
    "big-numbers-rounded": Detection((f"{JSON}::test_metrics", *READ), "metrics"),
    "nan-nulled": Detection((f"{JSON}::test_bare_word", *READ), "NaN"),
    "status-rewritten": Detection((f"{CONVERSATION}",), ""),
    "response-cached": Detection((f"{E2E}/test_fidelity_connections.py::test_identities_take_turns", *READ), "turns"),
    # The way from the proxy to MLflow.
    "stale-address": Detection(ONE_CALL, ""),
    "one-address-stale": Detection((f"{E2E}/test_fidelity_connections.py::test_reads_in_flight",), ""),
    "address-taken-over": Detection(ONE_CALL, ""),
    "dns-fail": Detection(ONE_CALL, ""),
    "connect-timeout": Detection(ONE_CALL, ""),
    "upstream-silent": Detection(ONE_CALL, ""),
    "timeout-too-short": Detection((f"{E2E}/test_slow_calls.py::test_download_with_pause",), ""),
    "upstream-by-https": Detection(ONE_CALL, ""),
    "upstream-by-http2": Detection(ONE_CALL, ""),
    "wrong-host-sent": Detection(ONE_CALL, ""),
    "strip-twice": Detection(ONE_CALL, ""),
    "loop-through-edge": Detection(ONE_CALL, ""),
    "loop-unnoticed": Detection(ONE_CALL, ""),
    "ghost-runs": Detection((f"{E2E}/test_runs.py::test_one_run_for_each_call", *READ), "one_run"),
    "shadow-traffic": Detection((f"{E2E}/test_runs.py::test_one_run_for_each_call", *READ), "one_run"),
    # More of what proxies let in, and tell.
    "graphql-hole": Detection(KEYLESS_READS, "graphql"),
    "path-differential": Detection((f"{PATHS}::test_odd_path_without_key[internal-letters]", *READ), "letters"),
    "health-shadowed": Detection((f"{E2E}/test_health.py",), "proxy"),
    "error-detail": Detection((*DENIED, *READ), "denied"),
    "error-html": Detection((*DENIED, *READ), "denied"),
    "internal-leak": Detection((f"{SECRETS}::test_no_answer_says_where", *READ), "says_where.*(malformed|read)"),
    "internal-leak-in-errors": Detection((f"{SECRETS}::test_no_answer_says_where", *READ), "says_where"),
    "credential-leak": Detection((f"{SECRETS}::test_no_log_has_a_key", *READ), "log_has"),
    "query-logged": Detection((f"{SECRETS}::test_no_log_has_a_key", *READ), "log_has.*query"),
    "key-echoed": Detection((*reads("bearer-get-run", "x-api-key-get-run"), *READ), "test_read"),
    # More of what proxies change.
    "origin-403": Detection((f"{E2E}/test_ui.py::test_write_of_page", *READ), "page"),
    "http10-downgrade": Detection((f"{TRANSFER}::test_chunked_upload", *READ), "chunked"),
    "answer-cut": Detection((f"{CONVERSATION}[internal-artifacts]", *READ), "artifacts"),
    "body-cut": Detection((f"{CONVERSATION}[internal-artifacts]", *READ), "artifacts"),
    "body-size-limit": Detection((f"{E2E}/test_artifacts.py::test_large_file[internal]", *READ), "large"),
    "keep-alive-off": Detection((f"{E2E}/test_fidelity_connections.py::test_same_connection_is_used", *READ), "same_connection"),
    "content-recoded": Detection((f"{TRANSFER}::test_coded_answer", *READ), "coded"),
    "request-decompressed": Detection((f"{TRANSFER}::test_odd_upload", *READ), "gzip"),
    "headers-limited": Detection((f"{REQUESTS}::test_many_headers", *READ), "many"),
    # The auth service, and the way there.
    "auth-down": Detection(ONE_CALL, ""),
    "auth-slow": Detection(ONE_CALL, ""),
    "auth-500": Detection(ONE_CALL, ""),
    "auth-nonsense": Detection(ONE_CALL, ""),
    "auth-404": Detection(ONE_CALL, ""),
    "wrong-service-id": Detection(ONE_CALL, ""),
    "outage-as-401": Detection(ONE_CALL, ""),
    "outage-as-500": Detection(ONE_CALL, ""),
    "fail-open": Detection(DENIED, ""),
    "revocation-lag": Detection((f"{LIFETIME}::test_revocation", *DENIED), "test_revocation"),
    "token-expiry": Detection(ONE_CALL, ""),
    "clock-ahead": Detection((f"{LIFETIME}::test_expiry_in_mid_run", *DENIED), "mid_run"),
    "clock-behind": Detection((f"{LIFETIME}::test_expiry_in_mid_run", *DENIED), "mid_run|expired"),
    "scopes-table-old": Detection(reads("bearer-get-run", "bearer-search-traces"), "traces"),
    "get-taken-for-read": Detection((f"{E2E}/test_denials.py::test_denied_get_that_acts",), "reader"),
}

# The faults for which MLflow need not be started anew: see faults/front.py.
WITH_A_SHARED_MLFLOW = tuple(fault.id for fault in FAULTS.values() if fault.hop != "mlflow")
