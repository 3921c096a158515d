"""The auth service against its own OpenAPI document, with generated requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.openapi import from_asgi

from fixtures.services.auth.app import create_app
from fixtures.services.auth.keys import KeyStore

ADMIN_TOKEN = "the token of the harness"
STORE = KeyStore(Path(":memory:"))
_, KEY = STORE.create(user_id="fuzz", service_id="mlflow", scopes=("read",), expires_at=None, rate_limit_per_hour=None)

service = from_asgi("/openapi.json", create_app(STORE, ADMIN_TOKEN))


@service.parametrize()
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_documented(case: schemathesis.Case[Any]) -> None:
    """Any request, documented or not, gets an answer with a documented status, headers and body."""
    token = KEY if case.path == "/api/v1/keys/validate" else ADMIN_TOKEN
    case.call_and_validate(headers={"Authorization": f"Bearer {token}"})
