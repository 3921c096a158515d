"""Settings on a user's machine that change what MLflow's client sends."""

from __future__ import annotations

import netrc
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from requests.utils import get_environ_proxies
from urllib3.util import Retry

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.facts.facts import READ, Facts
from mlflow_proxy_e2e.facts.sign import NO, Reading, Shows, Sign, holds
from mlflow_proxy_e2e.target import Route

WRITE_AND_READ = r"test_own_client\.py::test_write_and_read"  # the test that runs in the user's environment unchanged
OWN_CLIENT = "own-client"  # the subject of the tests of the user's own client: all other tests ignore the environment
# MLflow's defaults. Importing MLflow for them would take seconds.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": 7, "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": 2}
LOGIN = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
# The variables that a sign may read. Values are recorded only where they cannot be secret.
HARMLESS = ("MLFLOW_HTTP_REQUEST_TIMEOUT", *PATIENCE)


def _variables(facts: Facts, *names: str) -> Mapping[str, str]:
    """Return those of these environment variables that are set, with their values where they cannot be secret."""

    def live() -> dict[str, str]:
        return {name: os.environ[name] if name in HARMLESS else "set" for name in names if os.environ.get(name)}

    return facts.observe(f"environment {' '.join(names)}", live)


def _in_environment(read: Callable[[Facts], Sequence[str]]) -> Sign:
    """Return the sign that ``read`` finds something wrong in the user's environment, where only such tests have failed."""

    def found(facts: Facts) -> Reading:
        if facts.about and not facts.about <= {OWN_CLIENT}:
            return NO
        evidence = tuple(read(facts))
        return Reading(Shows.YES, evidence, ("client",)) if evidence else NO

    return Sign(found)


def _is_set(*names: str) -> Sign:
    return _in_environment(lambda facts: [f"{name} is set" for name in _variables(facts, *names)])


def _zero_timeout(facts: Facts) -> Sequence[str]:
    name = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    return [f"{name} is 0"] if _variables(facts, name).get(name) == "0" else []


def _silence(facts: Facts) -> Sequence[str]:
    """Return the variables that make a client retry for too long, and how long its pauses add up to."""
    said = _variables(facts, *PATIENCE)
    if not said:
        return []
    try:
        retries, factor = (int(said.get(name) or default) for name, default in PATIENCE.items())
    except ValueError:
        return []  # no client starts with such a value
    seconds = sum(min(Retry.DEFAULT_BACKOFF_MAX, factor * 2**attempt) for attempt in range(1, retries))
    if seconds <= timeouts.PROGRAM:
        return []
    return [*(f"{name} is {value}" for name, value in said.items()), f"a dead server is reported after {seconds:.0f} s"]


def _netrc_entries(facts: Facts) -> Sequence[str]:
    hosts = list(dict.fromkeys(urlsplit(route.url).hostname or "" for route in facts.target.routes))
    entries = facts.observe("entries of the .netrc", lambda: [host for host in hosts if _has_entry(host)])
    return [f"the .netrc has an entry for {host}" for host in entries]


def _has_entry(host: str) -> bool:
    file = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    with suppress(OSError, netrc.NetrcParseError):
        return netrc.netrc(file).authenticators(host) is not None
    return False


def _led_astray(facts: Facts) -> Sequence[str]:
    """Name the routes for which an HTTP proxy is set that does not lead to the target. Other kinds of proxies are not checked."""

    def proxy_of(route: Route) -> str:
        proxies = get_environ_proxies(route.url)
        proxy = proxies.get(urlsplit(route.url).scheme) or proxies.get("all") or ""
        return proxy if proxy.startswith("http://") else ""

    routes = facts.target.routes
    proxies = dict(zip(routes, facts.observe("HTTP proxies", lambda: list(map(proxy_of, routes))), strict=True))
    astray = [route for route, proxy in proxies.items() if proxy and not facts.ask(replace(route, proxy=proxy), READ).works]
    return [f"the HTTP proxy that is set does not lead to {urlsplit(route.url).netloc}" for route in astray]


CAUSES = (
    Cause(
        id=CauseId("basic-shadows-bearer"),
        hop="client",
        severity="down",
        symptom="401 with a good token",
        what="a user name and password are set, which MLflow's client sends instead of MLFLOW_TRACKING_TOKEN",
        remedy="unset MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, and empty ~/.mlflow/credentials",
        shows=holds(lambda facts: "basic" not in facts.target.carriers) & _is_set(*LOGIN),
        reddens=(WRITE_AND_READ,),
    ),
    Cause(
        id=CauseId("netrc-override"),
        hop="client",
        severity="down",
        symptom="401 with a good token",
        what="an entry for the host in .netrc replaces the token",
        remedy="remove the entry, or set NETRC to another file",
        shows=_in_environment(_netrc_entries),
        reddens=(WRITE_AND_READ,),
    ),
    Cause(
        id=CauseId("env-proxy"),
        hop="client",
        severity="down",
        symptom="timeouts, refused connections or another server's answers, for one user only",
        what="the client's environment names an HTTP proxy that does not lead to the target",
        remedy="add the target's host to NO_PROXY",
        reports=("mlflow#11551",),
        shows=_in_environment(_led_astray),
        reddens=(WRITE_AND_READ,),
    ),
    Cause(
        id=CauseId("registry-elsewhere"),
        hop="client",
        severity="down",
        symptom="experiments work, but models fail or are not where others find them",
        what="MLFLOW_REGISTRY_URI sends models to another server",
        remedy="unset MLFLOW_REGISTRY_URI",
        shows=_is_set("MLFLOW_REGISTRY_URI"),
        reddens=(r"test_own_client\.py::test_register_model",),
    ),
    Cause(
        id=CauseId("tls-settings-conflict"),
        hop="client",
        severity="down",
        symptom="an exception before anything is sent over HTTPS",
        what="MLFLOW_TRACKING_INSECURE_TLS is set together with MLFLOW_TRACKING_SERVER_CERT_PATH",
        remedy="unset MLFLOW_TRACKING_INSECURE_TLS",
        shows=_is_set("MLFLOW_TRACKING_INSECURE_TLS"),
        reddens=(rf"{WRITE_AND_READ}.*external",),
    ),
    Cause(
        id=CauseId("client-timeout-zero"),
        hop="client",
        severity="down",
        symptom="an exception before anything is sent",
        what="MLFLOW_HTTP_REQUEST_TIMEOUT is 0, which does not turn the timeout off",
        remedy="unset MLFLOW_HTTP_REQUEST_TIMEOUT, or set it to a number of seconds",
        shows=_in_environment(_zero_timeout),
        reddens=(WRITE_AND_READ,),
    ),
    Cause(
        id=CauseId("retry-hang"),
        hop="client",
        severity="contract",
        symptom="a call that failed at once is reported only minutes later",
        what="MLflow's client retries seven times by default, waiting longer each time",
        remedy="set MLFLOW_HTTP_REQUEST_MAX_RETRIES to 1 or 2 for interactive use",
        reports=("mlflow#5744",),
        shows=_in_environment(_silence),
        reddens=(r"test_own_client\.py::test_nobody_answers",),
    ),
    Cause(
        id=CauseId("workspace-set"),
        hop="client",
        severity="down",
        symptom="every call is refused because of its workspace, for one user only",
        what="MLFLOW_WORKSPACE is set, but MLflow runs without workspaces",
        remedy="unset MLFLOW_WORKSPACE",
        shows=_is_set("MLFLOW_WORKSPACE"),
        reddens=(WRITE_AND_READ,),
    ),
)
