"""The system under test as the tests see it: routes, identities, capabilities. Data only, no I/O."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from mlflow_proxy_e2e import timeouts

Scope = Literal["read", "write"]
Access = Literal["read", "write", "denied", "open"]  # what a call requires: a scope, more than any caller has, or nothing
PolicyKind = Literal["endpoint", "method"]
Carrier = str  # a scheme of Authorization, or the name of a header
Refusal = Literal["unauthenticated", "forbidden", "throttled"]
Preflight = Literal["refused", "open"]
ErrorBodies = Literal["mlflow", "any"]

CARRIERS: tuple[Carrier, ...] = ("bearer", "x-api-key")  # of the reference proxy; ``basic`` is for MLflow's own users
SCHEMES: Mapping[Carrier, str] = {"bearer": "Bearer", "apikey": "ApiKey"}  # schemes of Authorization with a key
NAMED: Mapping[Carrier, str] = {"x-api-key": "X-API-Key"}  # headers with a key, in their usual spelling
DIRECT = "direct"
CAPABILITIES: Mapping[str, str] = {
    "scopes": "keys can be limited to reading",
    "rate-limit": "a key over its limit gets a refusal that says when to retry",
    "key-lifetime": "the suite is allowed to issue keys that expire or are limited, and to revoke them",
    "registry": "models can be registered",
    "artifacts": "artifacts are served through the tracking server",
    "whole-artifacts": "the artifact store accepts files only in one piece, and says so to clients that upload in parts",
    "logged-models": "models are entities of their own (MLflow 3)",
    "traces": "traces can be logged and assessed",
    "otlp": "spans are accepted over OTLP, at /v1/traces",
    "datasets": "data sets for evaluation can be stored",
    "prompts": "prompts can be stored in the registry",
    "scorers": "scorers can be stored in an experiment",
    "graphql": "GraphQL queries can be made, at /graphql",
    "webhooks": "MLflow can call webhooks at public addresses",
    "gateway": "the endpoints and providers of MLflow's model gateway can be listed",
    "single-workspace": "MLflow runs without workspaces, and says so",
    "ui": "MLflow's pages are served, and the endpoints under /ajax-api that they call",
    "large-bodies": "bodies of many megabytes may be sent",
    "destructive": "calls may be made that can harm others' requests or data, or that put keys into logs",
}
PERMISSIONS = ("large-bodies", "destructive")  # what the owner of a target allows, rather than what the target can do


def header_of(carrier: Carrier) -> tuple[str, str]:
    """Return the header that carries a key, and the prefix of the key in its value."""
    if carrier in SCHEMES:
        return "Authorization", f"{SCHEMES[carrier]} "
    return NAMED.get(carrier, carrier), ""


class Secret:
    """A string that is shown only on request: not in a repr, a log, a test id or a traceback's variables."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the string itself."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


@dataclass(frozen=True)
class Route:
    """A base URL that a client can use.

    ``ca`` is the file of the authority that its certificate is checked against, ``proxy`` the URL of an HTTP proxy on the way.
    """

    name: str
    url: str
    ca: str | None = None
    proxy: str | None = None

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Denial:
    """How a call is refused: the exact status, MLflow's error code unless any body will do, and the header that is required."""

    status: int
    error_code: str | None
    header: str | None

    def __str__(self) -> str:
        code = f" {self.error_code}" if self.error_code else ""
        return f"{self.status}{code}" + (f" with {self.header}" if self.header else "")


@dataclass(frozen=True)
class Identity:
    """A named API key and its permissions.

    ``key`` is None for a caller without one, and ``user:password`` for the carrier ``basic``. ``refused`` says why a key is refused
    altogether; any other key is allowed the calls in its ``scopes``. ``carrier`` is how the key is sent by default,
    and ``source`` the environment variable that it came from.
    """

    name: str
    scopes: frozenset[Scope] = frozenset()
    refused: Refusal | None = None
    key: Secret | None = field(default=None, repr=False)
    carrier: Carrier = "bearer"
    source: str | None = None

    def __str__(self) -> str:
        return self.name

    @property
    def variable(self) -> str:
        """Return the name of the environment variable that holds the key in commands shown to people."""
        return self.source or f"E2E_KEY_{self.name.upper().replace('-', '_')}"

    @property
    def user(self) -> str:
        """Return the name of MLflow's user, for the carrier ``basic``."""
        return self.key.reveal().partition(":")[0] if self.key and self.carrier == "basic" else ""

    @property
    def secrets(self) -> Iterator[Secret]:
        """Return all strings that give the key away."""
        if self.key:
            yield self.key
            if self.carrier == "basic":
                pair = self.key.reveal()
                yield Secret(base64.b64encode(pair.encode()).decode())
                yield Secret(pair.partition(":")[2])

    def may(self, scope: Scope) -> bool:
        """Tell whether the identity is allowed calls of that scope."""
        return self.refused is None and scope in self.scopes


def key_headers(identity: Identity | None, carrier: Carrier | None = None) -> dict[str, str]:
    """Return the header with the identity's key, or none for a caller without one. By default, the identity's carrier is used."""
    if identity is None or identity.key is None:
        return {}
    key = identity.key.reveal()
    carrier = carrier or identity.carrier
    if carrier == "basic":
        return {"Authorization": f"Basic {base64.b64encode(key.encode()).decode()}"}
    header, before = header_of(carrier)
    return {header: f"{before}{key}"}


class Caller(NamedTuple):
    """An identity, or nobody, on a route: the arguments of ``Rest`` and ``signed_in``."""

    route: Route
    identity: Identity | None


@dataclass(frozen=True)
class Contract:
    """How a target refuses, and how soon. The defaults are those of the reference proxy.

    Args:
        unauthenticated, forbidden, throttled: the statuses.
        auth_outage: the status while keys cannot be checked.
        revocation_seconds: how long a key may still work after it was revoked or has expired, if the target caches decisions.
        preflight: whether browsers' preflight requests (OPTIONS) are refused without a key, or open.
        errors: whether the bodies of refusals are in MLflow's format, with its error codes.
        unauthenticated_header, throttled_header: the header that these refusals must have. Empty: none.
        open_paths: paths below a route's URL, or on its server, that are meant to need no key. They are read by GET and HEAD.
    """

    unauthenticated: int = 401
    forbidden: int = 403
    throttled: int = 429
    auth_outage: int = 503
    revocation_seconds: int = int(timeouts.REVOCATION)
    preflight: Preflight = "refused"
    errors: ErrorBodies = "mlflow"
    unauthenticated_header: str = "WWW-Authenticate"
    throttled_header: str = "Retry-After"
    open_paths: tuple[str, ...] = ()

    def is_open(self, method: str) -> bool:
        """Tell whether calls with that method are answered without a key."""
        return method == "OPTIONS" and self.preflight == "open"

    def denial(self, identity: Identity) -> Denial:
        """Return how ``identity`` is refused a call that it is not allowed."""
        status, code, header = {
            "unauthenticated": (self.unauthenticated, "UNAUTHENTICATED", self.unauthenticated_header),
            "forbidden": (self.forbidden, "PERMISSION_DENIED", ""),
            "throttled": (self.throttled, "REQUEST_LIMIT_EXCEEDED", self.throttled_header),
        }[identity.refused or "forbidden"]
        return Denial(status, code if self.errors == "mlflow" else None, header or None)


@dataclass(frozen=True)
class Policy:
    """How a deployment decides which scope a call needs. The default is the table in ``endpoints/scopes.txt``.

    Args:
        kind: ``endpoint`` goes by the table; ``method`` treats GET and HEAD as reads, and everything else as writes.
        overrides: endpoints that are decided differently, such as ``POST /v1/traces``, and how. The first that matches counts.
    """

    kind: PolicyKind = "endpoint"
    overrides: tuple[tuple[str, Access], ...] = ()


@dataclass(frozen=True)
class Acceptance:
    """A known problem of a target that its owner accepts.

    Args:
        what: the id of a cause, or the id of a test, in which ``*`` matches anything.
        reason: why it is accepted.
        until: the last day on which it is accepted, such as ``2027-03-01``, or None.
    """

    what: str
    reason: str
    until: str | None = None

    @property
    def is_of_tests(self) -> bool:
        """Tell whether the entry names tests rather than a cause."""
        return "::" in self.what or "*" in self.what

    def covers_test(self, test: str) -> bool:
        """Tell whether the entry names the test with that id."""
        pattern = ".*".join(map(re.escape, self.what.split("*")))
        return self.is_of_tests and re.fullmatch(pattern, test) is not None


@dataclass(frozen=True)
class Limits:
    """The limits on a run's requests, over all its processes. None: no limit."""

    requests_per_second: float | None = None
    requests: int | None = None


@dataclass(frozen=True)
class Hop:
    """A service on a request's way that can be called directly and whose log can be read, in the lab's own stack.

    Args:
        name: of the service; MLflow's further servers are ``mlflow-2`` and so on.
        url: its URL, if known.
        health: the path that answers without a key while the service runs.
        log: as ``mlflow_proxy_e2e.access_log`` reads it.
        ca: the file of the authority that its certificate is checked against.
    """

    name: str
    url: str | None
    health: str
    log: str
    ca: str | None = None


@dataclass(frozen=True)
class KeyService:
    """Where the suite issues and revokes keys: ``token`` permits that, for the service with that id."""

    url: str
    service_id: str
    token: Secret = field(repr=False)


@dataclass(frozen=True)
class Target:
    """The system under test. ``direct``, if known, is MLflow itself: the oracle, never under test.

    ``hops`` are known for the lab's own stack, ``keys`` if the suite is allowed to issue keys, ``mlflow_version`` if the stack
    was started with one; otherwise MLflow is asked.
    """

    name: str
    routes: tuple[Route, ...]
    identities: tuple[Identity, ...]
    capabilities: frozenset[str]
    carriers: tuple[Carrier, ...] = CARRIERS
    direct: Route | None = None
    contract: Contract = Contract()
    policy: Policy = Policy()
    accepted: tuple[Acceptance, ...] = ()
    hops: tuple[Hop, ...] = ()
    keys: KeyService | None = None
    limits: Limits = Limits()
    mlflow_version: str | None = None

    def __repr__(self) -> str:
        """Return what reports of failures show: not all of the above."""
        return f"<target {self.name}>"

    @property
    def access_logs(self) -> tuple[str, ...]:
        """Return the access logs of MLflow's servers, as far as they can be read."""
        return tuple(hop.log for hop in self.hops if hop.name.startswith("mlflow"))

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """Return everything that must not be printed."""
        token = [self.keys.token] if self.keys else []
        return (*(secret for identity in self.identities for secret in identity.secrets), *token)

    def route(self, name: str) -> Route:
        """Return the route of that name. Raises KeyError."""
        return {route.name: route for route in self.routes}[name]

    def identity(self, name: str) -> Identity:
        """Return the identity of that name. Raises KeyError."""
        return {identity.name: identity for identity in self.identities}[name]

    @property
    def insider(self) -> Identity:
        """Return an identity with all the scopes that any identity has."""
        return (*self.who_may("write"), *self.who_may("read"))[0]

    @property
    def truth(self) -> Caller:
        """Return the source for what MLflow holds: MLflow itself or, if it cannot be reached, the insider on a route."""
        return Caller(self.direct, None) if self.direct else Caller(self.routes[0], self.insider)

    def who_may(self, scope: Scope) -> tuple[Identity, ...]:
        """Return the identities that are allowed calls of that scope."""
        return tuple(i for i in self.identities if i.may(scope))

    def who_may_not(self, scope: Scope) -> tuple[Identity, ...]:
        """Return the identities that are not allowed calls of that scope."""
        return tuple(i for i in self.identities if not i.may(scope))

    def to_data(self) -> dict[str, Any]:
        """Return the target as plain data for another process, keys included: not for people, files or logs."""
        data = asdict(self)
        data["capabilities"] = sorted(self.capabilities)
        data["identities"] = [
            {**vars(i), "scopes": sorted(i.scopes), "key": i.key.reveal() if i.key else None} for i in self.identities
        ]
        if self.keys:
            data["keys"]["token"] = self.keys.token.reveal()
        return data

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Target:
        """Return the target from the data of ``to_data``."""
        return cls(
            name=data["name"],
            routes=tuple(Route(**route) for route in data["routes"]),
            identities=tuple(
                Identity(**{**i, "scopes": frozenset(i["scopes"]), "key": Secret(i["key"]) if i["key"] is not None else None})
                for i in data["identities"]
            ),
            capabilities=frozenset(data["capabilities"]),
            carriers=tuple(data["carriers"]),
            direct=Route(**data["direct"]) if data["direct"] else None,
            contract=Contract(**{**data["contract"], "open_paths": tuple(data["contract"].get("open_paths", ()))}),
            policy=_policy(data.get("policy")),
            accepted=tuple(Acceptance(**each) for each in data.get("accepted", ())),
            hops=tuple(Hop(**hop) for hop in data["hops"]),
            keys=KeyService(**{**data["keys"], "token": Secret(data["keys"]["token"])}) if data["keys"] else None,
            limits=Limits(**data["limits"]),
            mlflow_version=data["mlflow_version"],
        )


def _policy(data: Mapping[str, Any] | None) -> Policy:
    """Return the policy from plain data. Older facts files have none."""
    return Policy(data["kind"], tuple((endpoint, access) for endpoint, access in data["overrides"])) if data else Policy()
