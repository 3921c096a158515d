"""Issues and revokes API keys, if the suite is given access to that: see ``KeyService``."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

import requests

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.rest import Rest
from mlflow_proxy_e2e.target import Identity, KeyService, Route, Scope, Secret

KEYS = "/api/v1/keys"


class IssuedKey(NamedTuple):
    """A key, and the id to revoke it by."""

    key_id: str
    secret: Secret


class Keys:
    """A service's keys, issued and revoked through its API. Methods raise requests.RequestException."""

    def __init__(self, service: KeyService) -> None:
        self._service_id = service.service_id
        self._owner = Route("keys", service.url), Identity("owner", key=service.token)

    def issue(
        self,
        user: str,
        scopes: Iterable[Scope],
        *,
        service_id: str | None = None,
        expires_at: datetime | None = None,
        rate_limit_per_hour: int | None = None,
    ) -> IssuedKey:
        """Issue a key to a user.

        Args:
            user, scopes: the key's owner, and its scopes.
            service_id: the service that it is for, if not the one under test.
            expires_at: when it expires, with a time zone; None: never.
            rate_limit_per_hour: the number of calls allowed in an hour; None: no limit.
        """
        wish: dict[str, Any] = {"user_id": user, "service_id": service_id or self._service_id, "scopes": sorted(scopes)}
        if expires_at is not None:
            wish["expires_at"] = expires_at.isoformat()
        if rate_limit_per_hour is not None:
            wish["rate_limit_per_hour"] = rate_limit_per_hour
        created = self._call("POST", KEYS, json=wish).json()
        return IssuedKey(created["key_id"], Secret(created["key"]))

    def revoke(self, key_id: str) -> None:
        """Revoke a key for good. Revoking one twice is not an error."""
        self._call("DELETE", f"{KEYS}/{key_id}")

    def _call(self, method: str, path: str, **body: Any) -> requests.Response:
        with Rest(*self._owner) as owner:
            answer = owner.request(method, path, timeout=timeouts.KEY_SERVICE, **body)
        answer.raise_for_status()
        return answer
