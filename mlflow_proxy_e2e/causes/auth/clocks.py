"""Keys that expire too early or too late."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import ALL, ENDPOINTS, KEY_LIFETIME

CAUSES = (
    Cause(
        id=CauseId("token-expiry"),
        hop="auth",
        severity="down",
        symptom="401 with keys that worked a moment ago",
        what="the auth service lets every key expire moments after it was issued",
        remedy="issue keys that last as long as they are needed, and renew them in time",
        reports=("mlflow#4251",),
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
        reddens=(
            r"-expired",
            ENDPOINTS,
            rf"{KEY_LIFETIME}::test_expiry_in_mid_run",
        ),
    ),
)
