"""Leaks: no log contains a key, no answer contains the address of a service behind a route, and no page of another site
may read an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from mlflow_proxy_e2e.access_log import AccessLog
from mlflow_proxy_e2e.checks.leaks import internal_addresses
from mlflow_proxy_e2e.checks.oracle import assert_none_wrong
from mlflow_proxy_e2e.target import Identity, Route, Target
from mlflow_proxy_e2e.wire import JSON, Request, Wire, describe

API = "/api/2.0/mlflow"
FOREIGN = "https://pages.example.net"
REQUESTS: Mapping[str, Request] = {
    "malformed": Request("POST", f"{API}/runs/create", JSON, b"{"),
    "no-endpoint": Request("GET", f"{API}/no-such-endpoint"),
    "read": Request("GET", f"{API}/experiments/get?experiment_id=0"),
}
KEYED: Mapping[str, Request] = {
    "authorization": Request("GET", "", (("Authorization", "Bearer {key}"),)),
    "query": Request("GET", "?api_key={key}"),
    "x-api-key": Request("GET", "", (("X-API-Key", "{key}"),)),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_no_answer_says_where(name: str, route: Route, target: Target) -> None:
    """No answer to any identity contains the address of another service."""
    urls = [*(hop.url for hop in target.hops), target.direct.url if target.direct else None]
    places = {urlsplit(url).netloc for url in urls if url} - {urlsplit(route.url).netloc}
    addresses = {place if "." in place or ":" in place else f"//{place}" for place in places}  # mlflow alone is an ordinary word
    if not addresses:
        pytest.skip("it is not known where the services behind the route are")

    assert_none_wrong([_leaked_address(REQUESTS[name], route, identity, addresses) for identity in target.identities])


def _leaked_address(request: Request, route: Route, identity: Identity, addresses: set[str]) -> str | None:
    with Wire(route, identity) as wire:
        answer = wire.ask(request)
    leaks = [f"{address} is in it" for address in addresses if address in str((answer.headers, answer.body))]
    return describe(wire, request, f"{answer} with {dict(answer.headers)}", "no address of a service", leaks) if leaks else None


def open_paths(target: Target) -> Sequence[object]:
    """Return the paths that are meant to need no key."""
    return target.contract.open_paths or [pytest.param(None, id="none", marks=pytest.mark.skip("the target has no open paths"))]


@pytest.mark.parametrize_by_target("path", open_paths)
def test_open_path(path: str, route: Route, target: Target) -> None:
    """A path that is meant to need no key, below the route or on its server, shows neither a key nor an internal address."""
    url = urlsplit(route.url)
    places = {route.url, f"{url.scheme}://{url.netloc}"}

    assert_none_wrong([_told_openly(Request("GET", path), replace(route, url=place), target) for place in sorted(places)])


def _told_openly(request: Request, route: Route, target: Target) -> str | None:
    with Wire(route) as wire:
        answer = wire.ask(request)
    said = str(answer.headers).encode() + answer.body
    leaks = ["a key is in it"] if any(secret.reveal().encode() in said for secret in target.secrets) else []
    if answer.status == 200 and internal_addresses(answer.body, wire.authority.encode()):
        leaks.append("an internal address is in it")
    return describe(wire, request, f"{answer}", "no key and no internal address", leaks) if leaks else None


@pytest.mark.severity("open")
def test_no_answer_is_for_others_pages(route: Route, insider: Identity) -> None:
    """No answer lets a page of another site read it."""
    request = replace(REQUESTS["read"], headers=(("Origin", FOREIGN),))

    with Wire(route, insider) as wire:
        answer = wire.ask(request)

    allowed = answer.header("Access-Control-Allow-Origin")
    assert allowed not in (FOREIGN, "*"), describe(wire, request, f"{answer}, for {allowed} to read", "nothing that allows that")


@pytest.mark.parametrize("place", KEYED)
def test_no_log_has_a_key(place: str, route: Route, target: Target) -> None:
    """Anything sent as a key is in no service's log, wherever it was sent: more people read logs than are allowed to use keys."""
    if not target.hops:
        pytest.skip("the services' logs cannot be read")
    key, mark = f"hk_test_{uuid4().hex}", f"logged-{uuid4().hex}"  # not a valid key: it is refused, and must not be logged either
    form = KEYED[place]
    headers = tuple((name, value.format(key=key)) for name, value in form.headers)

    with Wire(route) as wire:
        answer = wire.ask(Request(form.method, f"{API}/{mark}{form.path.format(key=key)}", headers))

    assert answer.status == target.contract.unauthenticated
    for hop in target.hops:
        if hop.name == "proxy" or urlsplit(hop.url or "").netloc == urlsplit(route.url).netloc:
            with suppress(TimeoutError):  # if nothing is logged
                AccessLog((hop.log,)).await_line_with(mark)
    assert [hop.name for hop in target.hops if AccessLog((hop.log,)).lines_with(key)] == []
