"""Issues and revokes API keys, where somebody lets the suite do that: see ``KeyService``."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

import requests

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.clients import Rest
from mlflow_proxy_e2e.target import Identity, KeyService, Route, Scope, Secret

KEYS = "/api/v1/keys"


class IssuedKey(NamedTuple):
    """A key, and the id by which it is revoked."""

    key_id: str
    secret: Secret


class Keys:
    """The keys of a service, in the hands of who may issue them. Its methods raise requests.RequestException."""

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
            user, scopes: whose it is, and what it permits.
            service_id: where it permits that, if not where the suite tests.
            expires_at: from when on it permits nothing more; None: never. With a time zone.
            rate_limit_per_hour: how many calls it permits in an hour; None: any number.
        """
        wish: dict[str, Any] = {"user_id": user, "service_id": service_id or self._service_id, "scopes": sorted(scopes)}
        if expires_at is not None:
            wish["expires_at"] = expires_at.isoformat()
        if rate_limit_per_hour is not None:
            wish["rate_limit_per_hour"] = rate_limit_per_hour
        created = self._call("POST", KEYS, json=wish).json()
        return IssuedKey(created["key_id"], Secret(created["key"]))

    def revoke(self, key_id: str) -> None:
        """Revoke a key for good. To revoke one twice is no error."""
        self._call("DELETE", f"{KEYS}/{key_id}")

    def _call(self, method: str, path: str, **body: Any) -> requests.Response:
        with Rest(*self._owner) as owner:
            answer = owner.request(method, path, timeout=timeouts.KEY_SERVICE, **body)
        answer.raise_for_status()
        return answer
