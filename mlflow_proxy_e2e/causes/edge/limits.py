"""What the edge cuts off or refuses although MLflow would take it."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import CONVERSATIONS, LARGE_UPLOADS, OPEN_CONNECTIONS, external

CAUSES = (
    Cause(
        id=CauseId("idle-timeout"),
        hop="edge",
        severity="down",
        symptom="calls with a pause in them are cut off, always after the same time",
        what="the edge's idle timeout is shorter than such pauses",
        remedy="raise the idle timeout above the longest pause; MLflow's client waits two minutes",
        reports=("mlflow#7564",),
        reddens=(external(r"test_slow_calls\.py::test_upload_with_pause"),),
    ),
    Cause(
        id=CauseId("edge-timeout-too-short"),
        hop="edge",
        severity="down",
        symptom="large downloads end early, always after the same time",
        what="the edge limits how long a whole call may take",
        remedy="limit idle time instead",
        reports=("mlflow#7564",),
        reddens=(external(r"test_slow_calls\.py", r"test_artifacts\.py::test_large_file"),),
    ),
    Cause(
        id=CauseId("edge-body-size-limit"),
        hop="edge",
        severity="down",
        symptom="413 on large uploads, while small ones work",
        what="the edge limits the size of request bodies",
        remedy="lift the limit for MLflow's artifact paths",
        reports=("mlflow#10332",),
        reddens=(external(*LARGE_UPLOADS),),
    ),
    Cause(
        id=CauseId("waf-blocks"),
        hop="edge",
        severity="down",
        symptom="403 in HTML on searches with a filter, while others work",
        what="a web application firewall mistakes MLflow's filters for SQL injection",
        remedy="exempt MLflow's API from that rule",
        reddens=(external(r"::test_(search|page)_", CONVERSATIONS, r"test_fidelity_(names|json)\.py"),),
    ),
    Cause(
        id=CauseId("edge-keep-alive-off"),
        hop="edge",
        severity="hardening",
        symptom="every call is slow to start",
        what="the edge closes the connection after each answer",
        remedy="let clients keep their connections open",
        reddens=(external(*OPEN_CONNECTIONS),),
    ),
)
