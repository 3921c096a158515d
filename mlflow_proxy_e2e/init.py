"""Finds out about a deployed target by asking it: for a first profile, which a person reviews, or for a check without one.

Nothing is created or changed: the calls are reads, and writes to nothing.
"""

from __future__ import annotations

import http.client
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from mlflow_proxy_e2e import profile as profiles
from mlflow_proxy_e2e.endpoints.served import NEEDED
from mlflow_proxy_e2e.endpoints.table import is_missing
from mlflow_proxy_e2e.errors import BadOptionError, UnreachableError
from mlflow_proxy_e2e.profile import ANONYMOUS, REQUESTS_PER_SECOND, TEXT, VISIBLE
from mlflow_proxy_e2e.reach import READ, why_unreachable
from mlflow_proxy_e2e.redaction import without
from mlflow_proxy_e2e.target import (
    CAPABILITIES,
    PERMISSIONS,
    Carrier,
    Contract,
    Identity,
    Limits,
    Policy,
    Route,
    Scope,
    Secret,
    Target,
)
from mlflow_proxy_e2e.toml import Table
from mlflow_proxy_e2e.wire import JSON, Answer, Request, Wire

WRITE = Request("POST", "/api/2.0/mlflow/runs/set-tag", JSON, b"{}")  # a caller that can write gets MLflow's error
VERSION = Request("GET", "/version")
PREFLIGHT = replace(READ, method="OPTIONS", headers=(("Origin", "https://example.com"), ("Access-Control-Request-Method", "GET")))
NO_SUCH_PATH = Request("GET", "/e2e-no-such-path")
USUALLY_OPEN = ("/health", "/healthz", "/livez", "/readyz", "/ping", "/status", "/metrics")
NUMBER = re.compile(r"\d+\.[\w.+-]{1,30}")
MADE_UP, MADE_UP_USER = Secret("e2e-no-such-key"), Secret("e2e-no-such-user:e2e-no-such-password")
UNKNOWN = "It is not known whether the key can write: a write was neither refused nor answered by MLflow."


def _is_there(answer: Answer) -> bool:
    """Tell whether MLflow knows the endpoint: it has done what was asked, or has complained that something is missing."""
    return answer.status in (200, 400, 422)


def _has_one_workspace(answer: Answer) -> bool:
    return answer.status == 200 and b'"workspaces_enabled": false' in answer.body.replace(b'":false', b'": false')


# Calls that show that a target has a capability. No harmless call shows the others: they are promises.
SHOWN_BY: Mapping[str, tuple[Request, Callable[[Answer], bool]]] = {
    "registry": (Request("GET", "/api/2.0/mlflow/registered-models/search?max_results=1"), _is_there),
    "artifacts": (Request("GET", "/api/2.0/mlflow-artifacts/artifacts?path=e2e-nobody"), lambda answer: answer.status == 200),
    "logged-models": (Request("POST", "/api/2.0/mlflow/logged-models/search", JSON, b"{}"), _is_there),
    "traces": (Request("POST", "/api/3.0/mlflow/traces/search", JSON, b"{}"), _is_there),
    "otlp": (Request("POST", "/v1/traces", JSON, b"{}"), _is_there),  # without experiment and spans
    "datasets": (Request("POST", "/api/3.0/mlflow/datasets/search", JSON, b'{"max_results": 1}'), _is_there),
    "prompts": (Request("GET", "/api/2.0/mlflow/registered-models/search?filter=prompt%3D%27true%27&max_results=1"), _is_there),
    "scorers": (Request("GET", "/api/3.0/mlflow/scorers/list?experiment_id=0"), _is_there),
    "graphql": (Request("POST", "/graphql", JSON, b'{"query": "{__typename}"}'), lambda answer: answer.status == 200),
    "webhooks": (Request("GET", "/api/2.0/mlflow/webhooks?max_results=1"), lambda answer: answer.status == 200),
    "gateway": (Request("GET", "/api/3.0/mlflow/gateway/endpoints/list"), lambda answer: answer.status == 200),
    "single-workspace": (Request("GET", "/api/3.0/mlflow/server-info"), _has_one_workspace),
    "ui": (Request("GET", "/ajax-api/2.0/mlflow/experiments/search?max_results=1"), lambda answer: answer.status == 200),
}


@dataclass(frozen=True)
class Seen:
    """What was observed of a target."""

    carriers: tuple[Carrier, ...]
    version: str | None
    capabilities: tuple[str, ...]
    contract: Contract
    may_write: bool | None  # None: it is not known
    remarks: tuple[str, ...]


class KeyRefusedError(BadOptionError):
    """The target does not answer a read with the key as MLflow does."""


def ways_to_send(key: Secret) -> tuple[tuple[Carrier, ...], ...]:
    """Return the carriers that are tried for a key, or for a pair of user and password: each group if none before it works."""
    return (("basic",),) if ":" in key.reveal() else (("bearer", "x-api-key"), ("apikey",))


def look(route: Route, key: Secret) -> Seen:
    """Return what a target shows to a caller with that key. Raises UnreachableError, KeyRefusedError."""
    if reason := why_unreachable(route):
        raise UnreachableError(f"{route.url} cannot be reached: {reason}.")
    nobody = _ask(route, None, READ)
    groups = (_accepted(route, key, ways) for ways in ways_to_send(key))
    carriers = next(filter(None, groups), ())
    tried = tuple(way for ways in ways_to_send(key) for way in ways)
    who = Identity("key", key=key, carrier=(*carriers, *tried)[0])
    if not carriers:
        shown = without(who.secrets, str(_ask(route, who, READ)))
        raise KeyRefusedError(f"{route.url}: with the key as {' or '.join(tried)}, a search for experiments was answered {shown}.")
    made_up = _ask(route, replace(who, key=MADE_UP), READ)
    version = _ask(route, who, VERSION)
    told = version.body.decode(errors="replace").strip() if version and version.status == 200 else ""
    write = _ask(route, who, WRITE)
    may_write = True if write and _is_mlflows_own(write) else None
    refused = write if write and 400 <= write.status < 500 and not may_write else None
    return Seen(
        carriers=carriers,
        version=told if NUMBER.fullmatch(told) else None,
        capabilities=tuple(name for name in SHOWN_BY if _can(route, who, name, refused)),
        contract=replace(_contract(nobody, refused, _ask(route, None, PREFLIGHT)), open_paths=_open_paths(route)),
        may_write=False if refused else may_write,
        remarks=(*_remarks(nobody, made_up), *(() if may_write or refused else (UNKNOWN,))),
    )


def _accepted(route: Route, key: Secret, ways: Iterable[Carrier]) -> tuple[Carrier, ...]:
    """Return the carriers with which a search is answered as MLflow does."""
    return tuple(way for way in ways if _is_mlflows(_ask(route, Identity("key", key=key, carrier=way), READ)))


def _open_paths(route: Route) -> tuple[str, ...]:
    """Return the usual paths of health checks and metrics that are answered without a key, where not everything is."""
    if _is_answered(_ask(route, None, NO_SUCH_PATH)):
        return ()
    return tuple(path for path in USUALLY_OPEN if _is_answered(_ask(route, None, Request("GET", path))))


def _is_answered(answer: Answer | None) -> bool:
    return answer is not None and answer.status == 200


def _can(route: Route, who: Identity, capability: str, refused: Answer | None) -> bool:
    request, shows = SHOWN_BY[capability]
    answer = _ask(route, who, request)
    needed = (_ask(route, who, endpoint.call()) for endpoint in NEEDED.get(capability, ()))
    return answer is not None and shows(answer) and all(each and _may_be_there(each, refused) for each in needed)


def _may_be_there(answer: Answer, refused: Answer | None) -> bool:
    """Tell whether MLflow may know the endpoint. A caller that cannot write is refused before MLflow is asked."""
    if refused and answer.status == refused.status:
        return True
    return not is_missing(answer) and (answer.status != 404 or _is_mlflows_error(answer))


def _contract(nobody: Answer | None, refused: Answer | None, preflight: Answer | None) -> Contract:
    expected = Contract(forbidden=refused.status if refused else Contract.forbidden)
    if nobody is None or nobody.status < 400:
        return expected
    return replace(
        expected,
        unauthenticated=nobody.status,
        preflight="open" if preflight and preflight.status != nobody.status else "refused",
        errors="mlflow" if all(_is_mlflows_error(answer) for answer in (nobody, refused) if answer) else "any",
        unauthenticated_header="WWW-Authenticate" if nobody.header("WWW-Authenticate") else "",
    )


def _remarks(nobody: Answer | None, made_up: Answer | None) -> Iterator[str]:
    if nobody and _is_mlflows(nobody):
        yield "It answers WITHOUT A KEY: there is no gate in front of MLflow, or it lets everybody in."
    elif nobody and nobody.status < 400:
        yield f"Without a key it answers {nobody.status}, which is not a refusal: is it a login page?"
    if nobody and made_up and made_up.status != nobody.status:
        yield f"It refuses a missing key with {nobody.status}, but an unknown key with {made_up.status}: they should be the same."


def _ask(route: Route, who: Identity | None, request: Request) -> Answer | None:
    try:
        with Wire(route, who) as wire:
            return wire.ask(request)
    except (OSError, http.client.HTTPException):
        return None


def _is_mlflows(answer: Answer | None) -> bool:
    """Tell whether this is MLflow's answer to a search for experiments."""
    try:
        return answer is not None and answer.status == 200 and isinstance(answer.json(), dict)
    except ValueError:
        return False


def _is_mlflows_error(answer: Answer) -> bool:
    try:
        said = answer.json()
    except ValueError:
        return False
    return isinstance(said, dict) and {"error_code", "message"} <= set(said)


def _is_mlflows_own(write: Answer) -> bool:
    """Tell whether MLflow itself has answered a write to nothing, which means that the caller is allowed to write."""
    return write.status == 400 and _is_mlflows_error(write) and write.json()["error_code"] == "INVALID_PARAMETER_VALUE"


def profile(route: Route, seen: Seen, variable: str) -> str:
    """Return the profile, with comments on what to review."""
    expected = Contract()
    differs = {name: value for name, value in vars(seen.contract).items() if value != getattr(expected, name)}
    hidden = [name for name in SHOWN_BY if name not in seen.capabilities]
    scopes = ["read", "write"] if seen.may_write else ["read"]
    promised = [*seen.capabilities, *([] if seen.may_write else ["scopes"])]
    unknown = [name for name in CAPABILITIES if name not in (*SHOWN_BY, *PERMISSIONS, *promised)]
    lines = [
        f"# What {route.url} showed to mlflow-proxy-e2e init. Review it:",
        "# what is declared is a promise, and tests fail where it is not kept. docs/profiles.md has all entries.",
        *(f"# {remark}" for remark in seen.remarks),
        f"# MLflow {seen.version or 'of an unknown version'}",
        f"name = {_text(urlsplit(route.url).hostname or 'target')}",
        f"carriers = {_texts(seen.carriers)}",
        "",
        *(f"# Not seen: {name}: {CAPABILITIES[name]}." for name in hidden),
        *(f"# Cannot be checked: {name}: {CAPABILITIES[name]}." for name in unknown),
        f"capabilities = {_texts(promised)}",
        "",
        "[routes.external]",
        f"url = {_text(route.url)}",
        *([f"ca = {_text(str(Path(route.ca).resolve()))}"] if route.ca else []),
        *([f"proxy = {_text(route.proxy)}"] if route.proxy else []),
        "",
        "[identities.platform]   # the key that the target was asked with",
        *_credentials(seen, variable),
        f"scopes = {_texts(scopes)}",
        "",
        "# Add identities with other permissions: a read-only key, a revoked key, a key for another service.",
        "# [identities.revoked]",
        *_another(seen),
        '# denied = "unauthenticated"',
        *(["", "[expect]   # where refusals differ from the reference proxy's, and what is open without a key"] if differs else []),
        *(f"{name} = {_value(value)}" for name, value in differs.items()),
    ]
    return "\n".join(lines) + "\n"


def _credentials(seen: Seen, variable: str) -> Iterable[str]:
    if seen.carriers == ("basic",):
        user = os.environ[variable].partition(":")[0]
        return f"user = {_text(user)}", 'password = "env:E2E_PASSWORD_PLATFORM"   # the variable with just the password'
    return (f"key = {_text(f'env:{variable}')}",)


def _another(seen: Seen) -> Iterable[str]:
    if seen.carriers == ("basic",):
        return '# user = "revoked"', '# password = "env:E2E_PASSWORD_REVOKED"'
    return ('# key = "env:E2E_KEY_REVOKED"',)


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return _texts(value)
    return _text(value) if isinstance(value, str) else str(value)


def _text(value: str) -> str:
    return json.dumps(value)


def _texts(values: Iterable[str]) -> str:
    return f"[{', '.join(map(_text, values))}]"


def _route(said: Mapping[str, str | None]) -> Route:
    """Return the route described on the command line. Raises BadOptionError."""
    table = Table({name: value for name, value in said.items() if value is not None})
    route = profiles.route("external", table, Path())
    table.finish("The command line", BadOptionError)
    return route


def first_profile(url: str, variable: str, ca: str | None = None, proxy: str | None = None) -> str:
    """Return the profile of the target at a URL.

    Args:
        url: the base URL, as in MLFLOW_TRACKING_URI.
        variable: the environment variable with a key, or with user:password.
        ca: the file of the authority that the target's certificate is checked against.
        proxy: the URL of an HTTP proxy on the way.

    Raises BadOptionError, UnreachableError.
    """
    route, key = _route({"url": url, "ca": ca, "proxy": proxy}), key_in(variable)
    return profile(route, look(route, key), variable)


def key_in(variable: str) -> Secret:
    """Return the key in an environment variable. Raises BadOptionError."""
    return _key(os.environ.get(variable, ""), f"The environment variable {variable}")


def key_from(line: str) -> Secret:
    """Return the key in a line of standard input. Raises BadOptionError."""
    return _key(line.rstrip("\r\n"), "Standard input")


def _key(value: str, place: str) -> Secret:
    if not (TEXT if ":" in value else VISIBLE).fullmatch(value):
        raise BadOptionError(f"{place} must contain a key without white space, or user:password.")
    return Secret(value)


def target_at(url: str, key: Secret, variable: str | None, ca: str | None = None, proxy: str | None = None) -> Target:
    """Return the target at a URL, with what it shows to a caller with that key. Nothing is created or changed there.

    If it cannot be reached, or refuses the key, it promises nothing, and a diagnosis says why.

    Args:
        url: the base URL, as in MLFLOW_TRACKING_URI.
        key: a key, or user:password.
        variable: the environment variable that has it, if one does.
        ca: the file of the authority that the target's certificate is checked against.
        proxy: the URL of an HTTP proxy on the way.

    Raises BadOptionError.
    """
    route = _route({"url": url, "ca": ca, "proxy": proxy})
    try:
        seen = look(route, key)
    except (UnreachableError, KeyRefusedError):
        seen = Seen(ways_to_send(key)[0], None, (), Contract(), may_write=None, remarks=())
    carrier = seen.carriers[0]
    # A key counts as read-only only if a write was refused: otherwise, a write that succeeds later would look like a hole.
    scopes: frozenset[Scope] = frozenset({"read"} if seen.may_write is False else {"read", "write"})
    return Target(
        name=urlsplit(route.url).hostname or "target",
        routes=(route,),
        identities=(
            Identity("platform", scopes, key=key, carrier=carrier, source=variable),
            ANONYMOUS,
            Identity(
                "unknown-key", refused="unauthenticated", key=MADE_UP_USER if carrier == "basic" else MADE_UP, carrier=carrier
            ),
        ),
        capabilities=frozenset(seen.capabilities),
        carriers=seen.carriers,
        contract=seen.contract,
        policy=Policy(overrides=tuple((f"GET {path}", "open") for path in seen.contract.open_paths)),
        limits=Limits(requests_per_second=REQUESTS_PER_SECOND),
        mlflow_version=seen.version,
    )
