"""Calls that the proxy sends more than once."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId

CAUSES = (
    Cause(
        id=CauseId("ghost-runs"),
        hop="proxy",
        severity="loss",
        symptom="one call creates two runs",
        what="the proxy retries calls whose answer takes long, including POST",
        remedy="retry only requests that were never sent",
        reports=("mlflow#8238",),
        reddens=(
            r"test_one_run_for_each_call",
            r"test_duplicate_writes\.py",
            r"test_writes_in_flight",
        ),
    ),
    Cause(
        id=CauseId("shadow-traffic"),
        hop="proxy",
        severity="loss",
        symptom="one call creates two runs",
        what="the proxy mirrors every call to another MLflow that has the same database",
        remedy="mirror reads only, or mirror to a server with its own database",
        reddens=(
            r"test_one_run_for_each_call",
            r"test_duplicate_writes\.py",
            r"test_writes_in_flight",
        ),
    ),
)
