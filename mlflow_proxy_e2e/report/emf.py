"""The result for CloudWatch's logs: the embedded metric format, one JSON object per line, one line for each route."""

from __future__ import annotations

import json
from typing import Any

from mlflow_proxy_e2e.report.result import ANY, Check, Result

NAMESPACE = "MLflowE2E"
METRICS = {"Up": "Count", "Passed": "Count", "Failed": "Count", "SuiteErrors": "Count", "Duration": "Seconds"}


def render(result: Result) -> str:
    """Return the lines. Checks that belong to no route have a line of their own."""
    checks: dict[str, list[Check]] = {route: [] for route in result.routes}
    for check in result.checks:
        checks.setdefault(check.route or ANY, []).append(check)
    return "".join(f"{json.dumps(_line(result, route, of_route))}\n" for route, of_route in checks.items())


def _line(result: Result, route: str, checks: list[Check]) -> dict[str, Any]:
    passed = sum(check.outcome == "passed" for check in checks)
    bad = [check for check in checks if check.is_bad]
    return {
        "_aws": {
            "Timestamp": int((result.started.timestamp() + result.seconds) * 1000),
            "CloudWatchMetrics": [
                {
                    "Namespace": NAMESPACE,
                    "Dimensions": [["Target", "Route"]],
                    "Metrics": [{"Name": name, "Unit": unit} for name, unit in METRICS.items()],
                }
            ],
        },
        "Target": result.target,
        "Route": route,
        "Up": int(passed > 0),
        "Passed": passed,
        "Failed": len(bad),
        "SuiteErrors": len(result.errors),
        "Duration": round(result.seconds, 3),
        # The following are not metrics, but can be searched for in the logs.
        "Outcome": result.outcome,
        "FailedCells": sorted({f"{check.identity or ANY}/{check.capability}" for check in bad}),
        "Severities": [severity for severity, count in result.severities.items() if count],
        "Hops": sorted({hop for finding in result.wrong for hop in finding.hops}),
        "Causes": sorted({cause for finding in result.wrong for cause in finding.causes}),
    }
