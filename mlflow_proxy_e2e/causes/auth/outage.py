"""Decisions that the proxy does not get, and what it makes of that."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import ALL, WITHOUT_KEY

UNAVAILABLE_AT_ONCE = "503 at once on every call, with or without a key"

CAUSES = (
    Cause(
        id=CauseId("auth-down"),
        hop="auth",
        severity="down",
        symptom=UNAVAILABLE_AT_ONCE,
        what="nothing listens where the proxy looks for the auth service",
        remedy="start the auth service, and point the proxy at its service-discovery name",
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("auth-slow"),
        hop="auth",
        severity="down",
        symptom="503 on every call, with or without a key, after the proxy's timeout",
        what="the auth service takes longer to decide than the proxy waits",
        remedy="find out what the auth service waits for: its database, its network",
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("auth-500"),
        hop="auth",
        severity="down",
        symptom=UNAVAILABLE_AT_ONCE,
        what="the auth service fails on every decision",
        remedy="look for the reason in the auth service's log",
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("auth-nonsense"),
        hop="auth",
        severity="down",
        symptom=UNAVAILABLE_AT_ONCE,
        what="another service answers in place of the auth service: it accepts every request without naming the caller",
        remedy="point the proxy at the auth service's own decision endpoint",
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("auth-404"),
        hop="auth",
        severity="down",
        symptom=UNAVAILABLE_AT_ONCE,
        what="the proxy asks the auth service at a path that it does not have",
        remedy="have the proxy ask below /authorize",
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("outage-as-401"),
        hop="auth",
        severity="down",
        symptom="401 on every call, even with good keys",
        what="the proxy cannot reach the auth service, and treats that like a bad key",
        remedy="answer 503 when the key cannot be checked, and bring the auth service back",
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("outage-as-500"),
        hop="auth",
        severity="down",
        symptom="500 on every call, with or without a key",
        what="the proxy cannot reach the auth service, and does not handle that error",
        remedy="answer 503 when the key cannot be checked, and bring the auth service back",
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("fail-open"),
        hop="auth",
        severity="open",
        symptom="everybody is let in, with any key or none",
        what="the auth service fails on every decision, and the proxy lets requests through",
        remedy="fail closed: answer 503, and look for the reason in the auth service's log",
        reports=("oidc#289",),
        explains=(CauseId("scope-not-checked"),),
        reddens=(*WITHOUT_KEY,),
    ),
)
