"""The edge's target: whether the proxy can be reached from the edge, and whether the edge believes it healthy."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import EXTERNAL

CAUSES = (
    Cause(
        id=CauseId("edge-port-refused"),
        hop="edge",
        severity="down",
        symptom="502 at once on every call through the external URL",
        what="the listener rule's target has a port where nothing listens",
        remedy="use the proxy's port",
        reddens=(EXTERNAL,),
    ),
    Cause(
        id=CauseId("edge-connect-timeout"),
        hop="edge",
        severity="down",
        symptom="502 or 504 on every call through the external URL, always after the same time",
        what="a security group or firewall silently drops packets from the edge to the proxy",
        remedy="allow the edge to reach the proxy's port",
        reddens=(EXTERNAL,),
    ),
    Cause(
        id=CauseId("edge-upstream-silent"),
        hop="edge",
        severity="down",
        symptom="504 on every call through the external URL, always after the same time",
        what="the listener rule's target accepts connections but never answers",
        remedy="use the proxy's port; restart the proxy if it hangs",
        reports=("mlflow#21470",),
        reddens=(EXTERNAL,),
    ),
    Cause(
        id=CauseId("no-healthy-target"),
        hop="edge",
        severity="down",
        symptom="503 from the edge on every call through the external URL",
        what="no target passes its health check, because none is running",
        remedy="find out why the proxy is not running where the edge looks for it",
        reddens=(EXTERNAL,),
    ),
    Cause(
        id=CauseId("health-path-mismatch"),
        hop="edge",
        severity="down",
        symptom="503 from the edge on every call through the external URL, while the proxy works",
        what="the edge's health check asks for a path that the proxy does not have",
        remedy="point the health check at the proxy's own health path",
        reports=("mlflow#13199", "mlflow#25075"),
        reddens=(EXTERNAL,),
    ),
    Cause(
        id=CauseId("health-behind-auth"),
        hop="edge",
        severity="down",
        symptom="503 from the edge on every call through the external URL, while the proxy works",
        what="the edge's health check asks, without a key, for a path that needs one",
        remedy="point the health check at the proxy's own health path, which needs no key",
        reddens=(EXTERNAL,),
    ),
)
