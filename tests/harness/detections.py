"""Which e2e tests each fault turns red."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fixtures.faults import fidelity, gate

E2E = "tests/e2e"
READ = (f"{E2E}/test_experiments.py::test_get_experiment",)
CALLS = (f"{E2E}/test_denials.py::test_read",)
DENIED_READS = (f"{E2E}/test_denials.py::test_denied_read",)
DENIED_WRITES = (f"{E2E}/test_denials.py::test_denied_write",)
EVERY = f"{E2E}/test_every_endpoint.py::test_who_may_call"
VERBS = f"{E2E}/test_every_endpoint.py::test_verbs_that_endpoints_do_not_have"
CONVERSATION = f"{E2E}/test_same_answers.py::test_conversation"
PATHS, HEADERS, KEYS = (f"{E2E}/test_bypass_{subject}.py" for subject in ("paths", "headers", "keys"))
NAMES, JSON = (f"{E2E}/test_fidelity_{subject}.py" for subject in ("names", "json"))
REQUESTS, TRANSFER = (f"{E2E}/test_fidelity_{subject}.py" for subject in ("requests", "transfer"))


class Detection(NamedTuple):
    """Which e2e tests are run on the faulty system, and a pattern of the ids that turn red. All others must stay green."""

    tests: tuple[str, ...]
    red: str


DETECTED_BY: Mapping[str, Detection] = {
    "rule-straight-to-mlflow": Detection(READ, "external"),
    "tls-hostname": Detection(READ, "external"),
    "auth-stripped": Detection(CALLS, "external.*bearer"),
    "body-limit": Detection((f"{E2E}/test_artifacts.py::test_large_file",), "external"),
    "key-check-off": Detection(DENIED_READS, ""),
    "strip-none": Detection(READ, ""),
    "proxy-loop": Detection(READ, ""),
    "port-refused": Detection(READ, ""),
    "carrier-ignored": Detection(CALLS, "x-api-key"),
    "query-collapse": Detection((f"{E2E}/test_metrics.py::test_metric_history_of_several_runs", *READ), "several_runs"),
    "error-shape": Detection((f"{E2E}/test_experiments.py::test_get_unknown_experiment", *READ), "unknown"),
    "method-filter": Detection((f"{E2E}/test_registered_models.py::test_delete_registered_model", *READ), "delete"),
    "scope-not-checked": Detection(DENIED_WRITES, "reader"),
    "read-key-denied-read": Detection(CALLS, "reader.*(search-|graphql)"),
    "revocation-ignored": Detection(DENIED_READS, "revoked"),
    "expiry-ignored": Detection(DENIED_READS, "expired"),
    "rate-limit-not-enforced": Detection(DENIED_READS, "throttled"),
    "ratelimit-as-401": Detection(DENIED_READS, "throttled"),
    "service-not-checked": Detection(DENIED_READS, "other-service"),
    "artifacts-disabled": Detection((f"{E2E}/test_experiments.py::test_default_artifact_location", *READ), "artifact_location"),
    "host-403": Detection(READ, ""),
    "key-beginning-compared": Detection((f"{KEYS}::test_like_a_key",), ""),
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
    "denial-in-other-shape": Detection((*DENIED_READS, *READ), "anonymous|expired|malformed|revoked|unknown"),
    "login-redirect": Detection((*DENIED_READS, *READ), "anonymous|expired|malformed|revoked|unknown"),
    "challenge-missing": Detection((*DENIED_READS, *READ), "anonymous|expired|malformed|revoked|unknown"),
    "retry-after-missing": Detection((*DENIED_READS, *READ), "throttled"),
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
    "api-ajax-split": Detection((f"{EVERY}[internal-ajax-api-2.0]", f"{EVERY}[internal-api-2.0]"), "ajax-api"),
    "v3-unrouted": Detection((f"{EVERY}[internal-api-3.0]", f"{EVERY}[internal-api-2.0]"), "api-3"),
    "otlp-unrouted": Detection((f"{EVERY}[internal-other]", *READ), "other"),
    "head-refused": Detection((f"{TRANSFER}::test_head", *READ), "head"),
    "range-dropped": Detection((f"{TRANSFER}::test_range", *READ), "range"),
    "conditions-dropped": Detection((f"{TRANSFER}::test_conditional_request",), "none|modified"),
    "disposition-dropped": Detection((f"{TRANSFER}::test_names_in_headers", *READ), "names"),
    "charset-changed": Detection((f"{CONVERSATION}",), ""),
    "cors-opened": Detection((f"{CONVERSATION}",), ""),
    "json-rewritten": Detection((f"{CONVERSATION}",), ""),
    "big-numbers-rounded": Detection((f"{JSON}::test_metrics", *READ), "metrics"),
    "nan-nulled": Detection((f"{JSON}::test_bare_word", *READ), "NaN"),
    "status-rewritten": Detection((f"{CONVERSATION}",), ""),
    "answers-remembered": Detection((f"{E2E}/test_fidelity_connections.py::test_identities_take_turns", *READ), "turns"),
}

# The faults of proxies for which no other service need be started anew: see test_wrong_proxies.
WITH_A_PROXY_OF_THEIR_OWN = tuple(fault.id for fault in (*gate.FAULTS, *fidelity.FAULTS))
