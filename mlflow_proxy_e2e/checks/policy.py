"""Skips tests of calls that a deployment's own policy decides differently from the default table, which tests assume."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest

from mlflow_proxy_e2e.endpoints.scopes import DEFAULT, decided_otherwise, scopes_of
from mlflow_proxy_e2e.target import Identity, Target, key_headers
from mlflow_proxy_e2e.traffic import TRAFFIC
from mlflow_proxy_e2e.wire import Request, Wire


@contextmanager
def skipping(target: Target) -> Iterator[None]:
    """Within the block, skip a test as soon as it is about to make such a call, since the outcome would show nothing.

    ``test_every_endpoint`` tests the target against its own policy.
    """
    if target.policy == DEFAULT:
        yield
        return
    by_headers = {header: who for who in target.identities for way in target.carriers for header in key_headers(who, way).items()}
    carrying = {name for name, _ in by_headers}
    routes = {route.url for route in target.routes}
    sign = Wire.signed

    def of_client(route: str, method: str, path: str, headers: Mapping[str, Any]) -> None:
        sent = {(name, str(headers[name])) for name in carrying if name in headers}
        who = next((by_headers[header] for header in sent if header in by_headers), None)
        if route in routes and (who or not sent):  # the policy knows no keys that tests issue themselves
            skip_if_decided_otherwise(target, who, method, path)

    def of_wire(wire: Wire, request: Request) -> tuple[bytes, str]:
        if wire.route.url in routes:
            skip_if_decided_otherwise(target, wire.identity, request.method, request.path)
        return sign(wire, request)

    with patch.object(Wire, "signed", of_wire), patch.object(TRAFFIC, "before", of_client):
        yield


def skip_if_decided_otherwise(target: Target, who: Identity | None, method: str, path: str) -> None:
    """Skip the test if the policy decides this call differently from the default table."""
    path = path.partition("?")[0]
    if decided_otherwise(target.policy, who, method, path):
        lets = "does not let" if scopes_of().permit(who, method, path) else "lets"
        rule = scopes_of(target.policy).rule(method, path)
        pytest.skip(
            f"this deployment's policy {lets} {who or 'a caller without a key'} call {method} {rule.template if rule else path}"
        )
