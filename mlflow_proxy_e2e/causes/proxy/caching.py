"""Answers that the proxy gives from memory."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import WITHOUT_KEY

CAUSES = (
    Cause(
        id=CauseId("response-cached"),
        hop="proxy",
        severity="open",
        symptom="callers get what was read with another key, and changes do not show",
        what="the proxy caches answers and serves them to any caller",
        remedy="cache nothing that MLflow does not declare cacheable",
        reddens=(
            r"test_fidelity_connections\.py",
            *WITHOUT_KEY,
        ),
    ),
)
