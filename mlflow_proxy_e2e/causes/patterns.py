"""Regular expressions for pytest's ids that several causes share."""

from __future__ import annotations

ALL = r"."
EXTERNAL = r"\[(.+-)?external"

# Denied calls, each in one exact way.
DENIALS = r"::test_(client_raises_)?denied_"
NAMED_CALLER = r"test_bypass_headers\.py::test_named_caller_\w+\[.*plain"
ODD_KEYS = r"test_bypass_keys\.py"
KEY_LIFETIME = r"test_key_lifetime\.py"
ENDPOINTS = r"test_every_endpoint\.py"  # each test makes many calls, with good keys and without keys
NO_RULE = r"test_path_without_rule"
WITHOUT_KEY = (r"test_bypass_\w+\.py", DENIALS, ENDPOINTS, KEY_LIFETIME)

# Answers that are compared with MLflow's own, headers included.
CONVERSATIONS = r"test_same_answers\.py::test_conversation"
COMPARED = (
    CONVERSATIONS,
    r"test_fidelity_(json\.py::test_(answer|malformed_body)|requests\.py::test_(query\[|any_query|header_value|many_headers))",
    r"test_fidelity_transfer\.py::test_(coded|conditional|head|names_in|range)",
)
# MLflow's own errors, which must reach clients unchanged.
ERRORS = (
    r"::test_\w*(unknown|answered_by_mlflow|refused|conflict|too_long|explained|malformed)",
    r"::test_(assess_nothing|client_falls_back|client_lists_workspaces|delete_and_restore_run)",
    r"::test_(folder_is_no_file|text_in_query|workspace_header)",
    r"test_fidelity_connections\.py::test_(last_request|pipelining|\w+_in_flight)",
)

ARTIFACTS = (
    r"artifact|upload|chunk|test_(model_registration|own_client|slow_calls)\.py|test_fidelity_transfer\.py::test_(expect|range)"
)
LARGE_FILES = (r"test_artifacts\.py::test_large_file", rf"{CONVERSATIONS}\[.*artifacts")
LARGE_UPLOADS = (*LARGE_FILES, r"test_slow_calls\.py::test_(upload_with_pause|others_during_upload)")
LARGE_DOWNLOADS = (*LARGE_FILES, r"test_slow_calls\.py::test_download_with_pause", r"test_ui\.py::test_large_asset")
OTLP = r"test_otlp\.py|test_denials.*-send-span|test_traces\.py::test_record"
PAGES = r"test_ui(_artifacts)?\.py|test_gateway\.py|metric_history_of_several_runs|upload-artifact-from-page|denied_get_that_acts"
VERSION_3 = (
    r"test_(assessments|datasets|gateway|scorers|traces|workspaces)\.py",
    r"test_denials.*-\w+-(trace|assessment|dataset|scorer)|test_smoke\.py::test_\w+_trace",
)
OPEN_CONNECTIONS = (
    r"test_fidelity_connections\.py::test_(same_connection_is_used|pipelining|last_request)",
    r"test_fidelity_transfer\.py::test_head",
)


def external(*tests: str) -> str:
    """Return the pattern of the tests that match any of ``tests``, on the route through the edge."""
    return rf"^(?=.*{EXTERNAL}).*({'|'.join(tests)})"


def denied_to(*identities: str) -> str:
    """Return the pattern of calls that are denied to these identities."""
    return rf"{DENIALS}\w+\[(.+-)?({'|'.join(identities)})\b"


# Calls refused because they have no valid key.
UNAUTHENTICATED = (
    denied_to("anonymous", "expired", "malformed", "revoked", "unknown"),
    r"::test_denied_(key_in_query|options|bad_bearer)",
    *(NAMED_CALLER, ODD_KEYS, ENDPOINTS, KEY_LIFETIME),
)
REFUSALS = (DENIALS, NAMED_CALLER, ODD_KEYS, ENDPOINTS, KEY_LIFETIME, NO_RULE)
THROTTLED = (denied_to("throttled"), rf"{KEY_LIFETIME}::test_(rate_limit|client_waits)", ENDPOINTS)
