"""Where artifacts are kept, and whether MLflow serves them."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import ALL, ARTIFACTS, LARGE_UPLOADS

CAUSES = (
    Cause(
        id=CauseId("artifacts-disabled"),
        hop="mlflow",
        severity="down",
        symptom="503 on artifacts, while everything else works",
        what="MLflow runs with --no-serve-artifacts",
        remedy="serve artifacts through the tracking server",
        reddens=(ARTIFACTS,),
    ),
    Cause(
        id=CauseId("artifacts-only"),
        hop="mlflow",
        severity="down",
        symptom="503 on everything but artifacts",
        what="MLflow runs with --artifacts-only",
        remedy="send all other calls to another server, or run this one without --artifacts-only",
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("direct-store"),
        hop="mlflow",
        severity="down",
        symptom="clients ask for credentials of the artifact store, or cannot reach it",
        what="MLflow's --default-artifact-root is the store itself, so that clients access it directly",
        remedy="remove the option, set --artifacts-destination to the store, and recreate the experiments",
        reports=("mlflow#5659", "mlflow#10326"),
        reddens=(ARTIFACTS,),
    ),
    Cause(
        id=CauseId("artifact-host-fixed"),
        hop="mlflow",
        severity="down",
        symptom="clients send artifacts to another host than the one they were given",
        what="MLflow's --default-artifact-root names a host, which clients call without going through the proxy",
        remedy="leave the host out: mlflow-artifacts:/",
        reddens=(ARTIFACTS,),
    ),
    Cause(
        id=CauseId("artifact-store-missing"),
        hop="mlflow",
        severity="down",
        symptom="500 on uploads, while everything else works",
        what="the place that --artifacts-destination names does not exist: an unmounted volume, a misspelt bucket",
        remedy="mount the volume, or correct the name",
        reddens=(ARTIFACTS,),
    ),
    Cause(
        id=CauseId("disk-full"),
        hop="mlflow",
        severity="down",
        symptom="500 on large uploads, while small ones work",
        what="the disk on which MLflow keeps artifacts has no room for a large file",
        remedy="free disk space",
        reddens=(*LARGE_UPLOADS,),
    ),
)
