"""The profile of a deployed target: a TOML file with its routes, its identities and their keys, and what it promises.

``docs/profiles.md`` describes every entry. Keys are in environment variables that the file names.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from itertools import combinations
from pathlib import Path
from typing import Any, get_args
from urllib.parse import SplitResult, urlsplit

from mlflow_proxy_e2e.endpoints.scopes import Rule, rules_of, scopes_of
from mlflow_proxy_e2e.errors import BadProfileError
from mlflow_proxy_e2e.target import (
    CAPABILITIES,
    DIRECT,
    PERMISSIONS,
    SCHEMES,
    Acceptance,
    Access,
    Carrier,
    Contract,
    ErrorBodies,
    Identity,
    KeyService,
    Limits,
    Policy,
    PolicyKind,
    Preflight,
    Refusal,
    Route,
    Scope,
    Secret,
    Target,
)
from mlflow_proxy_e2e.toml import Table

CARRIERS: tuple[Carrier, ...] = (*SCHEMES, "x-api-key", "basic")
VALID = f"{', '.join(CARRIERS)}, and headers by name, such as X-Custom-Key"
ENVIRONMENT = "env:"  # the prefix of a variable's name where a key is expected
REQUESTS_PER_SECOND = 50  # the default for a target
PURPOSE = "--target needs the profile of a deployed target: docs/profiles.md describes it."
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]*")
VISIBLE = re.compile(r"[!-~]+")  # what a header can carry through any hop
TEXT = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]+")  # what a password can be: it is sent as base64 of UTF-8
STATUSES = ("unauthenticated", "forbidden", "throttled", "auth_outage")
OPEN_PATH = re.compile(r"/[^\s?#*]*")
UNTIL = re.compile(r"\buntil (\d{4}-\d{2}-\d{2})$")  # ends a reason that is valid until that day
LIKE_AN_ENDPOINT = 'it should be a method and a path, such as "POST /{api}/2.0/mlflow/runs/search", as in endpoints/scopes.txt'
PROBED: Rule = next(rules_of("GET /api/2.0/mlflow/experiments/search", "read"))
ANONYMOUS = Identity("anonymous", refused="unauthenticated")  # sends no key: every target must refuse it


def load(file: Path) -> Target:
    """Return the target that a profile describes. Nothing is sent.

    Raises BadProfileError, which names every wrong entry and how to fix it, and shows no key.
    """
    table = Table.read(file, BadProfileError, PURPOSE)
    reader = _Reader(file, table)
    target = reader.target()
    table.finish(file, BadProfileError)
    return target


@dataclass
class _Reader:
    """Reads a target from a file's table, and notes there what is wrong."""

    file: Path
    table: Table
    variables: dict[str, Secret] = field(default_factory=dict)

    def target(self) -> Target:
        table = self.table
        name = table.take("name", str)
        if not NAME.fullmatch(name) and "name" in table:
            table.note("name", "should be a word of letters, digits, '.', '_' and '-': reports use it")
        carriers = self.carriers()
        if "basic" in carriers and len(carriers) > 1:
            table.note("carriers", "has 'basic' among others: a user's password cannot be sent with any other carrier")
        promised = frozenset(table.words("capabilities", [known for known in CAPABILITIES if known not in PERMISSIONS]))
        routes = self.routes()
        identities = self.identities(promised, carriers)
        limits = table.table("limits")
        target = Target(
            name=name,
            routes=tuple(route for route in routes if route.name != DIRECT),
            direct=next((route for route in routes if route.name == DIRECT), None),
            identities=identities,
            capabilities=promised | self.permissions(limits),
            carriers=carriers,
            contract=(contract := self.contract()),
            policy=self.policy(contract),
            accepted=self.accepted(),
            keys=self.keys(promised),
            limits=self.limits(limits),
        )
        table.close()
        return target

    def carriers(self) -> tuple[Carrier, ...]:
        said = [str(word) for word in self.table.take("carriers", list)]
        written = {name.lower(): name for name in CARRIERS}
        if unknown := [word for word in said if word.lower() not in written and not (HEADER.fullmatch(word) and "-" in word)]:
            places = ", ".join(str(said.index(word) + 1) for word in unknown)
            self.table.note("carriers", f"has unknown values, at position {places}: valid are {VALID}")
        if len({word.lower() for word in said}) != len(said):
            self.table.note("carriers", "has repeated values")
        if not said:
            self.table.note("carriers", f"should have at least one of {VALID}")
        return tuple(written.get(word.lower(), word) for word in said if word not in unknown)

    def routes(self) -> tuple[Route, ...]:
        tables = self.table.tables("routes")
        routes = tuple(route(name, table, self.file.parent) for name, table in tables.items())
        if not any(route.name != DIRECT for route in routes):
            self.table.note("routes", "should have at least one besides 'direct', such as [routes.external] with its url")
        self.names("routes", routes)
        for one, other in combinations(routes, 2):
            if one.url == other.url and one.url:
                tables[other.name].note("url", f"is the same as that of routes.{one.name}: give each route once")
        return routes

    def identities(self, promised: frozenset[str], carriers: tuple[Carrier, ...]) -> tuple[Identity, ...]:
        tables = self.table.tables("identities")
        carrier: Carrier = carriers[0] if carriers else "bearer"
        identities = tuple(self.identity(name, table, promised, carrier) for name, table in tables.items())
        self.names("identities", identities)
        for one, other in combinations(identities, 2):
            if one.key and one.key == other.key and (one.scopes, one.refused) != (other.scopes, other.refused):
                tables[other.name].note("key", f"is the key of identities.{one.name}, which has other permissions")
        if not any(identity.may("read") for identity in identities):
            self.table.note("identities", 'should have at least one with a key and scopes = ["read"]: nobody can call the target')
        return identities if any(identity.key is None for identity in identities) else (*identities, ANONYMOUS)

    def identity(self, name: str, table: Table, promised: frozenset[str], carrier: Carrier) -> Identity:
        scopes: tuple[Scope, ...] = table.words("scopes", get_args(Scope), ())
        refused: Refusal | None = table.word("denied", get_args(Refusal), "forbidden") if "denied" in table else None
        if refused and scopes:
            table.note("scopes", "should be left out: a denied identity has no scopes")
        elif not refused and not scopes:
            table.note("scopes", 'is missing: ["read"], or ["read", "write"], or denied = "unauthenticated"')
        elif scopes == ("write",):
            table.note("scopes", 'should be ["read", "write"]: tests read back what they have written')
        elif scopes == ("read",) and "scopes" not in promised:
            table.note("scopes", "is limited to reading, which requires the capability 'scopes'")
        if refused == "throttled" and "rate-limit" not in promised:
            table.note("denied", "is 'throttled', which requires the capability 'rate-limit'")
        key = self.login(table) if carrier == "basic" else self.key(table)
        entry = "password" if carrier == "basic" else "key"
        if entry not in table and not refused:
            table.note(entry, f'is missing: it should be "{ENVIRONMENT}VARIABLE"')
        source = table.optional(entry)
        table.close()
        return Identity(name, frozenset(scopes), refused, key, carrier, source.removeprefix(ENVIRONMENT) if source else None)

    def key(self, table: Table) -> Secret | None:
        for name in ("user", "password"):
            if name in table:
                table.take(name, str)
                table.note(name, 'is for carriers = ["basic"] only')
        return self.secret(table, "key") if "key" in table else None

    def login(self, table: Table) -> Secret | None:
        if "key" in table:
            table.take("key", str)
            table.note("key", 'is not for carriers = ["basic"]: give user and password')
        user, password = table.optional("user"), self.secret(table, "password", TEXT) if "password" in table else None
        if (user is None) != ("password" not in table):
            table.note("", "should have both user and password, or neither")
        if user is not None and (not VISIBLE.fullmatch(user) or ":" in user):
            table.note("user", "should be a name without white space and colons")
        return Secret(f"{user}:{password.reveal()}") if user and password else None

    def secret(self, table: Table, name: str, allowed: re.Pattern[str] = VISIBLE) -> Secret | None:
        said = table.take(name, str)
        variable = said.removeprefix(ENVIRONMENT)
        value = os.environ.get(variable, "")
        if not said.startswith(ENVIRONMENT) or not re.fullmatch(r"[A-Za-z_]\w*", variable, re.ASCII):
            table.note(name, f'should name an environment variable, as in "{ENVIRONMENT}E2E_KEY_PLATFORM": keep keys out of files')
        elif not value:
            table.note(name, f"names {variable}, which is {'empty' if variable in os.environ else 'not set'}")
        elif value != value.strip():
            table.note(name, f"names {variable}, whose value begins or ends with white space or a newline: remove that")
        elif not allowed.fullmatch(value):
            table.note(name, f"names {variable}, whose value contains white space or characters that headers cannot carry")
        else:
            return Secret(value)
        return None

    def contract(self) -> Contract:
        table = self.table.table("expect")
        expected = contract(table)
        table.close()
        return expected

    def policy(self, contract: Contract) -> Policy:
        table = self.table.table("scopes")
        kind: PolicyKind = table.word("policy", get_args(PolicyKind), Policy.kind)
        overrides = tuple((endpoint, access(table, endpoint)) for endpoint in table.names if endpoint != "policy")
        return Policy(kind, (*overrides, *((f"GET {path}", "open") for path in contract.open_paths)))

    def accepted(self) -> tuple[Acceptance, ...]:
        table = self.table.table("accept")
        return tuple(acceptance(table, what) for what in table.names)

    def permissions(self, table: Table) -> frozenset[str]:
        return frozenset(name for name in PERMISSIONS if table.take(name.replace("-", "_"), bool, default=False))

    def limits(self, table: Table) -> Limits:
        said = {name: table.take(name, int) for name in ("requests_per_second", "requests") if name in table}
        for name, number in said.items():
            if number < 1:
                table.note(name, "should be at least 1")
        table.close()
        return Limits(said.get("requests_per_second", REQUESTS_PER_SECOND), said.get("requests"))

    def keys(self, promised: frozenset[str]) -> KeyService | None:
        if "keys" not in self.table:
            if "key-lifetime" in promised:
                self.table.note("keys", "is missing: the capability 'key-lifetime' requires a service that issues keys")
            return None
        table = self.table.table("keys")
        url, service, token = usable_url(table, "url"), table.take("service_id", str), self.secret(table, "token")
        table.close()
        return KeyService(url, service, token or Secret(""))

    def names(self, kind: str, there_are: Iterable[Route | Identity]) -> None:
        """Note names that are invalid, or too similar to be told apart in test ids and variables."""
        known: dict[str, str] = {}
        for name in map(str, there_are):
            folded = re.sub(r"[._-]", "-", name.lower())
            if not NAME.fullmatch(name):
                self.table.note(kind, "has a name that is not a word of letters, digits, '.', '_' and '-'")
            if folded in known:
                self.table.note(f"{kind}.{name}", f"is too similar to {kind}.{known[folded]} to be told apart")
            known[folded] = name


def route(name: str, table: Table, folder: Path) -> Route:
    """Return a route, and note what is wrong with it. A relative ``ca`` starts at ``folder``."""
    url = usable_url(table, "url")
    ca = table.optional("ca")
    path = str(folder / ca) if ca is not None else None
    if path:
        if url and not url.startswith("https:"):
            table.note("ca", "has no effect: the route's url does not begin with https://")
        elif "\0" in path:
            table.note("ca", "contains a NUL, which no file name can")
        elif reason := _why_no_authority(path):
            table.note("ca", f"cannot be used: {path}: {reason}")
    proxy = usable_url(table, "proxy") if "proxy" in table else None
    if proxy and (not proxy.startswith("http:") or urlsplit(proxy).path):
        table.note("proxy", "should be the URL of an HTTP proxy, such as http://proxy.example.com:3128")
    table.close()
    return Route(name, url, path, proxy)


def contract(table: Table) -> Contract:
    """Return how a target refuses, where that differs from the reference proxy."""
    said: dict[str, Any] = {name: table.take(name, int, getattr(Contract, name)) for name in (*STATUSES, "revocation_seconds")}
    for name in STATUSES:
        if said[name] not in range(400, 600):
            table.note(name, "should be a status from 400 to 599")
    if said["revocation_seconds"] < 0:
        table.note("revocation_seconds", "should be at least 0")
    for name in ("unauthenticated_header", "throttled_header"):
        said[name] = table.take(name, str, getattr(Contract, name))
        if not HEADER.fullmatch(said[name]):
            table.note(name, "should be the name of a header, or empty")
    said["open_paths"] = open_paths(table)
    preflight: Preflight = table.word("preflight", get_args(Preflight), Contract.preflight)
    return Contract(**said, preflight=preflight, errors=table.word("errors", get_args(ErrorBodies), Contract.errors))


def open_paths(table: Table) -> tuple[str, ...]:
    """Return the paths that are meant to need no key, and note values that are not paths."""
    said = [str(path) for path in table.take("open_paths", list, [])]
    if any(not OPEN_PATH.fullmatch(path) for path in said):
        table.note(
            "open_paths",
            'should have paths below the routes or on their servers, such as "/health", without a host, a query or wildcards',
        )
    if PROBED.template in said:
        table.note("open_paths", f"has {PROBED.template}, which the suite uses to see whether a key is let in")
    return tuple(path for path in said if OPEN_PATH.fullmatch(path))


def access(table: Table, endpoint: str) -> Access:
    """Return the access that an override gives an endpoint, and note what is wrong with it."""
    rules = tuple(rules_of(endpoint, "denied"))
    if not any(rule.covers(known) for rule in rules for known in scopes_of().rules):
        table.note(endpoint, f"matches no endpoint of MLflow: {LIKE_AN_ENDPOINT}")
    decided: Access = table.word(endpoint, get_args(Access), "denied")
    if decided in ("denied", "open") and any(rule.covers(PROBED) for rule in rules):
        table.note(endpoint, f"is '{decided}' and includes {PROBED}, which the suite uses to see whether a key is let in")
    return decided


def acceptance(table: Table, what: str) -> Acceptance:
    """Return the acceptance of an id, and note what is wrong with its reason."""
    reason = table.take(what, str).strip()
    until = UNTIL.search(reason)
    if what in table and not reason:
        table.note(what, "should say why it is accepted")
    if until and not _is_day(until[1]):
        table.note(what, "ends with an invalid date: it should look like 'until 2027-03-01'")
    return Acceptance(what, reason, until[1] if until else None)


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def usable_url(table: Table, name: str) -> str:
    """Return a base URL without a trailing slash. Messages do not show it, as it may contain a password."""
    said = table.take(name, str)
    for what in wrong_in_url(said) if name in table else ():
        table.note(name, what)
        return ""
    return said.rstrip("/")


def wrong_in_url(said: str) -> Iterator[str]:
    """Yield what is wrong with a URL as the base of a route, without showing it."""
    try:
        url = urlsplit(said)
        port = url.port
    except ValueError:
        yield "is not a URL: its host or its port cannot be read"
        return
    if not said or re.search(r"[^!-~]", said):
        yield "should be a URL without white space, in ASCII"
    elif url.scheme not in ("http", "https") or not said.lower().startswith(("http://", "https://")):
        yield "should begin with http:// or https://"
    elif not url.hostname or port == 0:
        yield "has no host, or an invalid port"
    yield from _superfluous_in_url(url, said)


def _superfluous_in_url(url: SplitResult, said: str) -> Iterator[str]:
    if "@" in url.netloc:
        yield "contains a user or a password, which would replace the key and appear in logs. Put keys under identities"
    elif "?" in said or "#" in said:
        yield "has a query or a fragment: it should be a base, to which MLflow's paths are added"
    elif re.search(r"/(ajax-)?api/\d\.\d(/|$)", url.path):
        yield "includes a part of MLflow's own paths: leave out /api/2.0/…, as in MLFLOW_TRACKING_URI"


def _why_no_authority(path: str) -> str | None:
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        return "it has no PEM certificate"
    except OSError as error:
        return error.strerror or type(error).__name__
    return None
