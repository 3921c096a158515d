"""Several MLflow servers behind one proxy."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import ALL

CAUSES = (
    Cause(
        id=CauseId("replica-split"),
        hop="mlflow",
        severity="loss",
        symptom="occasional 404 on what exists",
        what="there are two MLflow servers behind the proxy, each with its own database",
        remedy="give them one database, which cannot be SQLite",
        reports=("mlflow#12783",),
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("replica-version-skew"),
        hop="mlflow",
        severity="contract",
        symptom="calls work and fail by turns, and a field is in some answers only",
        what="the MLflow servers behind the proxy run different versions",
        remedy="deploy the same version on all of them",
        reddens=(r"test_same_mlflow_every_time",),
    ),
)
