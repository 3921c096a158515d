"""The edge's target: whether the edge can reach the proxy, and considers it healthy."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import EXTERNAL
from mlflow_proxy_e2e.causes.snippets import TO_PROXY, snippets
from mlflow_proxy_e2e.facts.facts import Facts
from mlflow_proxy_e2e.facts.outage import edge_fails, nobody_answered, with_logs
from mlflow_proxy_e2e.facts.sign import NO, UNKNOWN, UNTOLD, Reading, Shows, Sign
from mlflow_proxy_e2e.facts.stopped import at_edge, flag, slow
from mlflow_proxy_e2e.facts.trace import LogLine

HEALTH_CHECKER = "Envoy/HC"  # as the lab's edge calls itself in the proxy's log
POLL_SECONDS = 0.1


def _health_checks(facts: Facts) -> list[LogLine]:
    """Return the lines of the edge's health checks in the proxy's log, waiting for the first one if need be."""
    end = time.monotonic() + timeouts.HEALTH_CHECK
    while not (checks := facts.lines_with((HEALTH_CHECKER,), ("proxy",), "health checks")):
        if not facts.is_live or time.monotonic() > end:
            break
        time.sleep(POLL_SECONDS)
    return checks


def _checked(test: Callable[[Sequence[LogLine]], bool]) -> Sign:
    """Return the sign that the edge considers the proxy unhealthy and its health checks look like this. UNKNOWN without logs."""

    def read(facts: Facts) -> Reading:
        if not facts.has_logs:
            return UNKNOWN
        checks = facts.once(_health_checks)
        evidence = (checks[-1],) if checks else ("no health check has reached the proxy",)
        return Reading(Shows.YES, evidence) if test(checks) else NO

    return edge_fails & ~slow & flag("edge", "UH") & Sign(read)


def _refused(checks: Sequence[LogLine]) -> bool:
    return any(check.said.get("status") in (401, 403) for check in checks)


edge_nobody_answered = nobody_answered & at_edge & UNTOLD
UNNAMED = (("the edge does not get the proxy's answer", edge_fails & with_logs & ~flag("edge", "UF", "UH")),)


RIGHT_PORT = snippets(
    envoy="""
        clusters:
          - name: proxy
            type: STRICT_DNS
            load_assignment:
              cluster_name: proxy
              endpoints:
                - lb_endpoints:
                    - endpoint: { address: { socket_address: { address: proxy.internal, port_value: 8001 } } }
    """,
    nginx=TO_PROXY["nginx"],
    aws="""
        aws elbv2 deregister-targets --target-group-arn "$PROXY_TARGET_GROUP_ARN" --targets "Id=$PROXY_ID,Port=$WRONG_PORT"
        aws elbv2 register-targets --target-group-arn "$PROXY_TARGET_GROUP_ARN" --targets "Id=$PROXY_ID,Port=8001"
    """,
)
OWN_HEALTH_PATH = snippets(
    envoy="""
        clusters:
          - name: proxy
            health_checks:
              - timeout: 2s
                interval: 10s
                unhealthy_threshold: 3
                healthy_threshold: 1
                http_health_check: { path: /health } # the proxy's own, which needs no key
    """,
    aws="""
        aws elbv2 modify-target-group --target-group-arn "$PROXY_TARGET_GROUP_ARN" \\
          --health-check-path /health --health-check-port traffic-port --matcher HttpCode=200
    """,
)

CAUSES = (
    Cause(
        id=CauseId("edge-port-refused"),
        hop="edge",
        severity="down",
        symptom="502 at once on every call through the external URL",
        what="the listener rule's target has a port where nothing listens",
        remedy="use the proxy's port",
        shows=edge_fails & ~slow & flag("edge", "UF"),
        reddens=(EXTERNAL,),
        fixes=RIGHT_PORT,
    ),
    Cause(
        id=CauseId("edge-connect-timeout"),
        hop="edge",
        severity="down",
        symptom="502 or 504 on every call through the external URL, always after the same time",
        what="a security group or firewall silently drops packets from the edge to the proxy",
        remedy="allow the edge to reach the proxy's port",
        shows=(edge_fails & slow & flag("edge", "UF")) | edge_nobody_answered,
        reddens=(EXTERNAL,),
        fixes=snippets(
            aws="""
                aws ec2 authorize-security-group-ingress --group-id "$PROXY_SECURITY_GROUP" \\
                  --protocol tcp --port 8001 --source-group "$EDGE_SECURITY_GROUP"
            """
        ),
    ),
    Cause(
        id=CauseId("edge-upstream-silent"),
        hop="edge",
        severity="down",
        symptom="504 on every call through the external URL, always after the same time",
        what="the listener rule's target accepts connections but never answers",
        remedy="use the proxy's port; restart the proxy if it hangs",
        reports=("mlflow#21470",),
        shows=(edge_fails & slow & ~flag("edge", "UF", "UH")) | edge_nobody_answered,
        reddens=(EXTERNAL,),
        fixes=RIGHT_PORT,
    ),
    Cause(
        id=CauseId("no-healthy-target"),
        hop="edge",
        severity="down",
        symptom="503 from the edge on every call through the external URL",
        what="no target passes its health check, because none is running",
        remedy="find out why the proxy is not running where the edge looks for it",
        shows=_checked(lambda checks: not checks),
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
        shows=_checked(lambda checks: bool(checks) and not _refused(checks)),
        reddens=(EXTERNAL,),
        fixes=OWN_HEALTH_PATH,
    ),
    Cause(
        id=CauseId("health-behind-auth"),
        hop="edge",
        severity="down",
        symptom="503 from the edge on every call through the external URL, while the proxy works",
        what="the edge's health check asks, without a key, for a path that needs one",
        remedy="point the health check at the proxy's own health path, which needs no key",
        shows=_checked(_refused),
        reddens=(EXTERNAL,),
        fixes=OWN_HEALTH_PATH,
    ),
)
