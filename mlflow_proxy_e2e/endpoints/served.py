"""The version of MLflow that a target serves: another version than the installed one may lack some of its endpoints.

MLflow is asked for them; there is no list of versions. Only MLflow itself is asked, on the lab's own stacks: a
proxy in front of it may be what is broken, and a deployment's profile says what it promises.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from packaging.version import Version

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.endpoints.table import Endpoint, is_missing
from mlflow_proxy_e2e.target import CAPABILITIES, Target
from mlflow_proxy_e2e.version import installed, mlflow_version
from mlflow_proxy_e2e.wire import Wire

# The endpoints that a capability cannot do without: the newest ones that its tests call.
NEEDED: Mapping[str, tuple[Endpoint, ...]] = {
    "logged-models": (Endpoint("POST", "/api/2.0/mlflow/logged-models"),),
    "traces": (Endpoint("POST", "/api/3.0/mlflow/traces"), Endpoint("GET", "/api/3.0/mlflow/traces/get")),
    "otlp": (Endpoint("POST", "/v1/traces"),),
    "datasets": (Endpoint("POST", "/api/3.0/mlflow/datasets/create"), Endpoint("DELETE", "/api/3.0/mlflow/datasets/*/records")),
    "scorers": (Endpoint("POST", "/api/3.0/mlflow/scorers/register"),),
    # Endpoints for budgets that never fire while the tests run.
    "webhooks": (Endpoint("POST", "/api/2.0/mlflow/webhooks"), Endpoint("POST", "/api/3.0/mlflow/gateway/budgets/create")),
    "gateway": (Endpoint("GET", "/gateway/mlflow/v1/models"),),
    "single-workspace": (Endpoint("GET", "/api/3.0/mlflow/workspaces"),),
}


class Served(NamedTuple):
    """The version of the served MLflow, and the capabilities that it lacks."""

    version: str
    lacking: frozenset[str] = frozenset()

    def why_not(self, capability: str) -> str | None:
        """Return why MLflow cannot have a capability, or None if it can."""
        return f"MLflow {self.version} lacks it: {CAPABILITIES[capability]}" if capability in self.lacking else None

    def why_too_old(self, version: str) -> str | None:
        """Return that MLflow is older than ``version``, or None if it is not."""
        return f"MLflow {self.version} lacks it: the test needs {version}" if Version(self.version) < Version(version) else None


@functools.cache
def served(target: Target) -> Served:
    """Return what a ready target serves. An MLflow that does not tell its version counts as one that lacks nothing."""
    version = target.mlflow_version or mlflow_version(target, timeouts.REACH) or installed()
    if version == installed() or not (target.direct and target.hops) or mlflow_version(target, timeouts.ANSWER) != version:
        return Served(version)
    with Wire(target.direct) as wire:
        lacking = (name for name, needed in NEEDED.items() if any(is_missing(wire.ask(endpoint.call())) for endpoint in needed))
        return Served(version, frozenset(lacking))


def as_served(target: Target) -> Target:
    """Return the target, once ready, without the capabilities that the MLflow of the lab's own stack lacks."""
    return replace(target, capabilities=target.capabilities - served(target).lacking) if target.hops else target
