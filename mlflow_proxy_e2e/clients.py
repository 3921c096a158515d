"""MLflow's client, for one identity on one route."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import mlflow
from mlflow import MlflowClient
from mlflow.tracking._tracking_service import utils as tracking

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.target import Caller, Carrier, Identity, Route, header_of

# By default, the MLflow client retries eight kinds of failure for four minutes. Tests need to see a failure when it happens.
FAIL_AT_ONCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": f"{timeouts.ANSWER:.0f}"}
# MLflow's defaults, whatever is set on this machine.
MLFLOW_DEFAULTS = dict.fromkeys(
    (
        *("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER"),
        *("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER"),
    )
)
# Each of these replaces the key that a test means to send.
LOGIN = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
SHADOWING = (*LOGIN, "MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4")
SET_BY_MLFLOW = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")  # and the variables that its setters set
VARIABLE: dict[Carrier, str] = {"bearer": "MLFLOW_TRACKING_TOKEN", "x-api-key": "MLFLOW_TRACKING_API_KEY"}
HEADER_VARIABLE = "MLFLOW_TRACKING_API_KEY_HEADER"  # has the plug-in send the key in another header
ON_THE_WAY = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")  # both spellings are used
NOT_ON_THE_WAY = ("NO_PROXY", "no_proxy")


@contextmanager
def signed_in(
    route: Route,
    identity: Identity | None = None,
    carrier: Carrier | None = None,
    *,
    patience: Mapping[str, str | None] = FAIL_AT_ONCE,
) -> Iterator[MlflowClient]:
    """Within the block, MLflow in this process talks to ``route`` as ``identity``: the client that it yields and the fluent API.

    ``patience`` has the environment variables for how long MLflow's client retries: FAIL_AT_ONCE, or MLFLOW_DEFAULTS.

    MLflow reads URL and credentials from the process, so blocks may be nested (the inner one counts), but not interleaved.
    """
    wanted: dict[str, str | None] = dict.fromkeys((*SHADOWING, *VARIABLE.values(), HEADER_VARIABLE))
    wanted |= {**patience, "MLFLOW_TRACKING_SERVER_CERT_PATH": route.ca}
    wanted |= dict.fromkeys(ON_THE_WAY, route.proxy) | dict.fromkeys(NOT_ON_THE_WAY, None if route.proxy else "*")
    wanted |= credentials(identity, carrier)
    before = {name: os.environ.get(name) for name in (*wanted, *SET_BY_MLFLOW)}
    uris = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    try:
        _set_environment(wanted)
        _forget_routes_to_artifacts()
        mlflow.set_tracking_uri(route.url)
        mlflow.set_registry_uri(route.url)
        yield MlflowClient()
    finally:
        _forget_routes_to_artifacts()
        mlflow.set_tracking_uri(uris[0])
        mlflow.set_registry_uri(uris[1])
        _set_environment(before)


def client_of(caller: Caller) -> MlflowClient:
    """Return an MLflow client for a caller. Several can be used in turn: each call is made within ``signed_in``."""
    return cast(MlflowClient, _ClientOf(caller))


class _ClientOf:
    """Makes each MlflowClient call as its caller."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            with signed_in(*self._caller) as client:
                return getattr(client, name)(*arguments, **options)

        return call


def credentials(identity: Identity | None, carrier: Carrier | None = None) -> dict[str, str]:
    """Return the environment variables for MLflow's client to send the identity's key. By default, its carrier is used."""
    if identity is None or identity.key is None:
        return {}
    carrier, key = carrier or identity.carrier, identity.key.reveal()
    if carrier == "basic":
        user, _, password = key.partition(":")
        return dict(zip(LOGIN, (user, password), strict=True))
    if carrier in VARIABLE:
        return {VARIABLE[carrier]: key}
    header, before = header_of(carrier)
    return {VARIABLE["x-api-key"]: f"{before}{key}", HEADER_VARIABLE: header}


def _forget_routes_to_artifacts() -> None:
    """Make MLflow use the current URL for a run's artifacts: it would otherwise keep using the first one."""
    getattr(tracking, "_artifact_repos_cache", {}).clear()


def _set_environment(wanted: dict[str, str | None]) -> None:
    for name, value in wanted.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
