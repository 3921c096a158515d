"""Which keys the auth service takes for good."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import ENDPOINTS, KEY_LIFETIME, ODD_KEYS, THROTTLED

CAUSES = (
    Cause(
        id=CauseId("revocation-ignored"),
        hop="auth",
        severity="open",
        symptom="a revoked key still works",
        what="the auth service ignores revocations",
        remedy="check for revocation on every call",
        reddens=(
            r"-revoked",
            ENDPOINTS,
            rf"{KEY_LIFETIME}::test_(revocation|keys_of_one_user)",
        ),
    ),
    Cause(
        id=CauseId("revocation-lag"),
        hop="auth",
        severity="open",
        symptom="a key that was in use keeps working for minutes after it was revoked",
        what="the auth service's decisions are cached for minutes",
        remedy="ask the auth service about every call, or cache decisions for seconds only",
        reports=("oidc#242",),
        reddens=(rf"{KEY_LIFETIME}::test_(revocation|expiry|keys_of_one_user)",),
    ),
    Cause(
        id=CauseId("expiry-ignored"),
        hop="auth",
        severity="open",
        symptom="an expired key still works",
        what="the auth service ignores expiry dates",
        remedy="check the expiry date on every call",
        reddens=(
            r"-expired",
            ENDPOINTS,
            rf"{KEY_LIFETIME}::test_expiry",
        ),
    ),
    Cause(
        id=CauseId("key-prefix-match"),
        hop="auth",
        severity="open",
        symptom="a key that is truncated or extended still works",
        what="the auth service compares only the first characters of keys",
        remedy="compare whole keys, by their hashes",
        reddens=(rf"{ODD_KEYS}::test_like_a_key",),
    ),
    Cause(
        id=CauseId("key-case-ignored"),
        hop="auth",
        severity="open",
        symptom="a key in upper or lower case still works",
        what="the auth service ignores case when it compares keys",
        remedy="compare keys exactly",
        reddens=(rf"{ODD_KEYS}::test_like_a_key",),
    ),
    Cause(
        id=CauseId("rate-limit-not-enforced"),
        hop="auth",
        severity="contract",
        symptom="a key over its rate limit still works",
        what="the auth service does not count calls",
        remedy="count calls, and answer 429 with Retry-After",
        reddens=(*THROTTLED,),
    ),
    Cause(
        id=CauseId("ratelimit-as-401"),
        hop="auth",
        severity="contract",
        symptom="401 under load with a good key",
        what="the auth service reports an exhausted rate limit as a bad key",
        remedy="answer 429 with Retry-After",
        reddens=(*THROTTLED,),
    ),
)
