"""What the auth service decides: which scope a call needs, and which service a key is for."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import ALL, ENDPOINTS, ODD_KEYS, VERSION_3, denied_to

BY_METHOD_AND_PATH = "decide by method and path"

CAUSES = (
    Cause(
        id=CauseId("scope-not-checked"),
        hop="auth",
        severity="open",
        symptom="read-only keys can write",
        what="the auth service does not require the write scope",
        remedy="require the write scope for every call that changes something",
        reddens=(
            denied_to("reader"),
            r"of_denied_(write|delete)",
            r"test_record_without_permission\[.*-reader",
            rf"{ODD_KEYS}.*-reader",
            ENDPOINTS,
        ),
    ),
    Cause(
        id=CauseId("get-taken-for-read"),
        hop="auth",
        severity="open",
        symptom="read-only keys can trigger actions in MLflow",
        what="every GET counts as a read, but some of MLflow's GET endpoints change something",
        remedy=BY_METHOD_AND_PATH,
        reddens=(
            r"test_denied_get_that_acts\[.*-reader",
            rf"{ENDPOINTS}::test_who_may_call",
        ),
    ),
    Cause(
        id=CauseId("read-key-denied-read"),
        hop="auth",
        severity="down",
        symptom="403 on searches with a read-only key",
        what="every POST counts as a write, but MLflow searches with POST",
        remedy=BY_METHOD_AND_PATH,
        reddens=(
            r"reader.*-(search|query-graphql)",
            r"::test_(search|page)_\w+\[.*-reader",
            rf"{ENDPOINTS}::test_who_may_call",
        ),
    ),
    Cause(
        id=CauseId("scopes-table-old"),
        hop="auth",
        severity="down",
        symptom="403 on traces and datasets even with an all-scopes key, while experiments and runs work",
        what="MLflow is newer than the auth service's table of endpoints, which denies what it does not list",
        remedy="add MLflow's new endpoints to the table",
        reddens=(
            *VERSION_3,
            rf"{ENDPOINTS}.*api-3",
        ),
    ),
    Cause(
        id=CauseId("service-not-checked"),
        hop="auth",
        severity="open",
        symptom="a key for another service is let in",
        what="the auth service does not compare the key's service with the one that is called",
        remedy="compare them, and answer 403 if they differ",
        reddens=(
            r"-other-service",
            ENDPOINTS,
        ),
    ),
    Cause(
        id=CauseId("wrong-service-id"),
        hop="auth",
        severity="down",
        symptom="403 on every call with a good key",
        what="the proxy asks the auth service about another service than the one that the keys are for",
        remedy="configure the proxy with the service that the keys are issued for",
        reddens=(ALL,),
    ),
)
