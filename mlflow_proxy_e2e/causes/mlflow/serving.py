"""How MLflow is served: whether it answers at all, by which server, and in which version."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import ALL, OPEN_CONNECTIONS, OTLP, VERSION_3

CAUSES = (
    Cause(
        id=CauseId("mlflow-down"),
        hop="mlflow",
        severity="down",
        symptom="502 at once on every call",
        what="MLflow is not running",
        remedy="start MLflow, and look in its log for why it stopped",
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("mlflow-silent"),
        hop="mlflow",
        severity="down",
        symptom="504 on every call, always after the same time",
        what="MLflow accepts connections but never answers: it hangs",
        remedy="restart MLflow, and look in its log for what it hangs on",
        reports=("mlflow#21470",),
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("native-routes-missing"),
        hop="mlflow",
        severity="down",
        symptom="404 from MLflow on traces sent by OpenTelemetry",
        what="MLflow is served by gunicorn, which lacks its newer endpoints",
        remedy="run MLflow without --gunicorn-opts",
        reddens=(
            OTLP,
            r"test_ui\.py::test_search_jobs",
            r"test_gateway\.py",
        ),
    ),
    Cause(
        id=CauseId("too-few-workers"),
        hop="mlflow",
        severity="down",
        symptom="calls wait until another client's large upload is done",
        what="MLflow has a single worker that handles one request at a time",
        remedy="give MLflow more workers or threads",
        explains=(CauseId("edge-keep-alive-off"), CauseId("keep-alive-off"), CauseId("native-routes-missing")),
        reddens=(
            r"test_slow_calls\.py::test_others_during_upload",
            *OPEN_CONNECTIONS,
            OTLP,
        ),
    ),
    Cause(
        id=CauseId("client-skew"),
        hop="mlflow",
        severity="down",
        symptom="404 on logged models, and on whatever else is newer than the server",
        what="MLflow is older than its clients, and lacks endpoints that they call",
        remedy="upgrade the server, or have clients use its version",
        reports=("mlflow#16215",),
        reddens=(
            *VERSION_3,
            OTLP,
            r"logged_model|test_(model_registration|prompts|webhooks)\.py|::test_(load|register)_model",
        ),
    ),
)
