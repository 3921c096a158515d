"""The names and prefixes under which MLflow answers."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import ALL

CAUSES = (
    Cause(
        id=CauseId("host-403"),
        hop="mlflow",
        severity="down",
        symptom='403 "Invalid Host header" on every call, while /health works',
        what="MLflow's --allowed-hosts lacks the name under which the proxy calls it",
        remedy="add that name, with its port, to --allowed-hosts",
        reports=("mlflow#22095", "oidc#207"),
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("static-prefix-mismatch"),
        hop="mlflow",
        severity="down",
        symptom="404 from MLflow on every call",
        what="MLflow runs with --static-prefix, which since 3.12 also moves its API, but the proxy strips that prefix",
        remedy="forward the prefix, or run MLflow without --static-prefix",
        reports=("mlflow#22159", "mlflow#24473", "mlflow#24511"),
        reddens=(ALL,),
    ),
)
