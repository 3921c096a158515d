"""What in a person's own environment keeps their MLflow client from the target, though the target is well."""

from __future__ import annotations

import netrc
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR, MLFLOW_HTTP_REQUEST_MAX_RETRIES
from requests.utils import get_environ_proxies
from urllib3.util import Retry

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.diagnosis.examination import READ, Examination, Finding, works
from mlflow_proxy_e2e.target import Route

# What each of these variables does to a client by being set.
MEANS: Mapping[str, str] = {
    "MLFLOW_TRACKING_USERNAME": "basic-shadows-bearer",
    "MLFLOW_TRACKING_PASSWORD": "basic-shadows-bearer",
    "MLFLOW_REGISTRY_URI": "registry-elsewhere",
    "MLFLOW_TRACKING_INSECURE_TLS": "tls-settings-conflict",
    "MLFLOW_WORKSPACE": "workspace-set",
}
OWN_CLIENT = "own-client"  # what tests of this are about
PATIENCE = (MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR)


def client(x: Examination, environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Find out what in the environment changes whom an MLflow client calls, and as whom."""
    target = x.target
    wanted = {"basic-shadows-bearer"} if "basic" in target.carriers else set()
    causes = dict.fromkeys(cause for variable, cause in MEANS.items() if environment.get(variable))
    for cause in (cause for cause in causes if cause not in wanted):
        variables = _set((variable for variable, means in MEANS.items() if means == cause), environment)
        yield _finding(cause, *(f"{variable} is set" for variable in variables))
    if environment.get("MLFLOW_HTTP_REQUEST_TIMEOUT") == "0":
        yield _finding("client-timeout-zero", "MLFLOW_HTTP_REQUEST_TIMEOUT is 0")
    if (seconds := _silence(environment)) > timeouts.PROGRAM:
        said = ", ".join(f"{name} is {environment[name]}" for name in _set((each.name for each in PATIENCE), environment))
        yield _finding("retry-hang", f"{said}: that nobody answers is told after {seconds:.0f} s")
    hosts = dict.fromkeys(urlsplit(route.url).hostname or "" for route in target.routes)
    if entries := [host for host in hosts if _has_entry(host, environment)]:
        yield _finding("netrc-override", *(f"the .netrc has an entry for {host}" for host in entries))
    if proxied := [route for route in target.routes if _is_led_astray(x, route)]:
        yield _finding("env-proxy", *(f"the HTTP proxy that is set does not lead to {urlsplit(r.url).netloc}" for r in proxied))


def _set(variables: Iterable[str], environment: Mapping[str, str]) -> list[str]:
    return [variable for variable in variables if environment.get(variable)]


def _silence(environment: Mapping[str, str]) -> float:
    """Return for how many seconds in all a client waits between its attempts, where its user has a say in that."""
    if not _set((each.name for each in PATIENCE), environment):
        return 0
    try:
        retries, factor = (int(environment.get(each.name) or each.default) for each in PATIENCE)
    except ValueError:
        return 0  # with which no client begins to wait
    return float(sum(min(Retry.DEFAULT_BACKOFF_MAX, factor * 2**attempt) for attempt in range(1, retries)))


def _finding(cause: str, *evidence: str) -> Finding:
    return Finding((cause,), ("client",), evidence)


def _has_entry(host: str, environment: Mapping[str, str]) -> bool:
    file = Path(environment.get("NETRC") or Path.home() / ".netrc")
    with suppress(OSError, netrc.NetrcParseError):
        return netrc.netrc(file).authenticators(host) is not None
    return False


def _is_led_astray(x: Examination, route: Route) -> bool:
    """Tell whether an HTTP proxy is set by way of which a route does not lead to the target. Of other proxies nothing is known."""
    proxies = get_environ_proxies(route.url)
    proxy = proxies.get(urlsplit(route.url).scheme) or proxies.get("all") or ""
    if not proxy.startswith("http://"):
        return False
    return not works(x.ask(replace(route, proxy=proxy), READ))
