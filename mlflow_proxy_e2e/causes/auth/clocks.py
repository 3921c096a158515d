"""Keys that expire too early or too late."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import ALL, ENDPOINTS, KEY_LIFETIME
from mlflow_proxy_e2e.causes.proxy.refusals import refused_with
from mlflow_proxy_e2e.facts.admission import clock_ahead, clock_behind, wrongly_let_in
from mlflow_proxy_e2e.facts.refused import accepted_key, is_refused_like_nobody, refused_like_nobody, refuses_by_auth
from mlflow_proxy_e2e.facts.sign import holds
from mlflow_proxy_e2e.facts.stopped import stops

key_has_expired = (
    refuses_by_auth("opinion")
    | (stops(is_refused_like_nobody, lambda _: ("auth",)) & stops(lambda facts, _: accepted_key(facts) is not None))
    | refused_like_nobody
    | (refused_with("limit", "auth") & holds(lambda facts: False if facts.has_logs else None))
)


CAUSES = (
    Cause(
        id=CauseId("token-expiry"),
        hop="auth",
        severity="down",
        symptom="401 with keys that worked a moment ago",
        what="the auth service issues keys that expire within moments",
        remedy="issue keys with a longer lifetime, and renew them in time",
        reports=("mlflow#4251",),
        shows=key_has_expired,
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("clock-ahead"),
        hop="auth",
        severity="down",
        symptom="401 with keys that have not expired yet",
        what="the auth service's clock is ahead",
        remedy="synchronise its clock (NTP)",
        reports=("mlflow#8823",),
        shows=clock_ahead,
        reddens=(rf"{KEY_LIFETIME}::test_expiry_in_mid_run",),
    ),
    Cause(
        id=CauseId("clock-behind"),
        hop="auth",
        severity="open",
        symptom="keys keep working after they have expired",
        what="the auth service's clock is behind",
        remedy="synchronise its clock (NTP)",
        reports=("mlflow#8823",),
        shows=clock_behind | (wrongly_let_in(lambda who: who.name == "expired") & clock_behind),
        reddens=(
            r"-expired",
            ENDPOINTS,
            rf"{KEY_LIFETIME}::test_expiry_in_mid_run",
        ),
    ),
)
