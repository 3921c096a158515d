"""The system under test as the tests see it: routes, identities, capabilities. Data only, no I/O."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from mlflow_proxy_e2e import timeouts

Scope = Literal["read", "write"]
Access = Literal["read", "write", "denied", "open"]  # what a call asks of its caller: a scope, what nobody has, or nothing
PolicyKind = Literal["endpoint", "method"]
Carrier = str  # a scheme of Authorization, or the name of a header
Refusal = Literal["unauthenticated", "forbidden", "throttled"]
Preflight = Literal["refused", "open"]
ErrorBodies = Literal["mlflow", "any"]

CARRIERS: tuple[Carrier, ...] = ("bearer", "x-api-key")  # of the reference proxy; ``basic`` is of MLflow's own users
SCHEMES: Mapping[Carrier, str] = {"bearer": "Bearer", "apikey": "ApiKey"}  # by which Authorization carries a key
NAMED: Mapping[Carrier, str] = {"x-api-key": "X-API-Key"}  # headers that carry one, as they are written
DIRECT = "direct"
CAPABILITIES: Mapping[str, str] = {
    "scopes": "keys may be limited to reading",
    "rate-limit": "a key over its limit is told so, and when to come again",
    "key-lifetime": "the suite may issue keys that expire or are limited, and revoke them",
    "registry": "models can be registered",
    "artifacts": "artifacts are served through the tracking server",
    "whole-artifacts": "the artifact store takes files in one piece only, and says so to who uploads in parts",
    "logged-models": "models are entities of their own (MLflow 3)",
    "traces": "traces can be logged and assessed",
    "otlp": "spans are taken over OTLP, at /v1/traces",
    "datasets": "data sets for evaluation are kept",
    "prompts": "prompts are kept in the registry",
    "scorers": "scorers are kept in an experiment",
    "graphql": "queries can be made in GraphQL, at /graphql",
    "webhooks": "MLflow can be told to call others, if their addresses are public ones",
    "gateway": "what MLflow's model gateway offers and has been given can be looked up",
    "single-workspace": "MLflow runs without workspaces, and says so",
    "ui": "MLflow's pages are served, and what they call under /ajax-api",
    "large-bodies": "bodies of many megabytes may be sent to it",
    "destructive": "calls may be made that can harm others' requests or data, or have keys come to be in logs",
}
PERMISSIONS = ("large-bodies", "destructive")  # what a target can take is one thing, what its owner allows another


def header_of(carrier: Carrier) -> tuple[str, str]:
    """Return the header that carries a key, and what stands before the key in it."""
    if carrier in SCHEMES:
        return "Authorization", f"{SCHEMES[carrier]} "
    return NAMED.get(carrier, carrier), ""


class Secret:
    """A string that shows itself only when asked to: not in a repr, a log, a test id or a traceback's variables."""

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

    ``ca`` is the file with the authority that its certificate is checked against, ``proxy`` the URL of an HTTP proxy on the way.
    """

    name: str
    url: str
    ca: str | None = None
    proxy: str | None = None

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Denial:
    """How a call is refused: the exact status, MLflow's error code unless any body will do, and the header that comes with it."""

    status: int
    error_code: str | None
    header: str | None

    def __str__(self) -> str:
        code = f" {self.error_code}" if self.error_code else ""
        return f"{self.status}{code}" + (f" with {self.header}" if self.header else "")


@dataclass(frozen=True)
class Identity:
    """A named API key with what it may do.

    ``key`` is None for a caller that shows none, and ``user:password`` where the carrier is ``basic``. ``refused`` says why a key
    is turned away at the door; a key that is not turned away may do what is in ``scopes``. ``carrier`` is how the key is sent where
    nothing else is asked for, and ``source`` the environment variable that it came from.
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
        """Return the name of the environment variable that holds the key, where people use it."""
        return self.source or f"E2E_KEY_{self.name.upper().replace('-', '_')}"

    @property
    def user(self) -> str:
        """Return the name of MLflow's user, where the carrier is ``basic``."""
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
        """Tell whether the identity may make calls of that scope."""
        return self.refused is None and scope in self.scopes


class Caller(NamedTuple):
    """Somebody on a route: what ``Rest`` and ``signed_in`` are called with."""

    route: Route
    identity: Identity | None


@dataclass(frozen=True)
class Contract:
    """How a target refuses, and how soon. The defaults are those of the reference proxy.

    Args:
        unauthenticated, forbidden, throttled: the statuses.
        auth_outage: the status while what checks keys is down.
        revocation_seconds: how long a key may be let in after it was revoked or has expired, by a target that remembers answers.
        preflight: whether browsers' preflight requests (OPTIONS) are refused without a key, or open.
        errors: whether the bodies of refusals are in MLflow's shape, with its error codes.
        unauthenticated_header, throttled_header: what comes with these refusals. Empty: no header need.
        open_paths: below a route's URL, or on its server, that need no key by intent. They may be read by GET and HEAD.
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
        """Say how ``identity`` is refused what it may not do."""
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
        kind: ``endpoint`` goes by the table; ``method`` takes GET and HEAD for reads, and everything else for writes.
        overrides: endpoints that are decided in another way, such as ``POST /v1/traces``, and how. The first that matches counts.
    """

    kind: PolicyKind = "endpoint"
    overrides: tuple[tuple[str, Access], ...] = ()


@dataclass(frozen=True)
class Acceptance:
    """Something that is wrong with a target, and that its owner knows of and accepts.

    Args:
        what: the id of a cause, or that of a test, in which ``*`` stands for anything.
        reason: why it is accepted.
        until: the last day on which it is, such as ``2027-03-01``. None: there is none.
    """

    what: str
    reason: str
    until: str | None = None

    @property
    def is_of_tests(self) -> bool:
        """Tell whether it is about tests, and not about a cause."""
        return "::" in self.what or "*" in self.what

    def covers_test(self, test: str) -> bool:
        """Tell whether it is about the test of that id."""
        pattern = ".*".join(map(re.escape, self.what.split("*")))
        return self.is_of_tests and re.fullmatch(pattern, test) is not None


@dataclass(frozen=True)
class Limits:
    """How much may be asked of a target in one run, over all its processes. None: as much as it takes."""

    requests_per_second: float | None = None
    requests: int | None = None


@dataclass(frozen=True)
class Hop:
    """A service on a request's way that can be asked by itself, and whose log can be read: of a stack that we own.

    Args:
        name: of the service; MLflow's further servers are ``mlflow-2`` and so on.
        url: where it is reached, if that is known.
        health: the path that answers without a key as long as the service runs.
        log: as ``mlflow_proxy_e2e.access_log`` reads it.
        ca: the file with the authority that its certificate is checked against.
    """

    name: str
    url: str | None
    health: str
    log: str
    ca: str | None = None


@dataclass(frozen=True)
class KeyService:
    """Where keys are issued and revoked for as long as a test needs them: ``token`` permits that, for the service of that id."""

    url: str
    service_id: str
    token: Secret = field(repr=False)


@dataclass(frozen=True)
class Target:
    """The system under test. ``direct``, where it is known, is MLflow itself: the oracle, never under test.

    ``hops`` are known of a stack that we own, ``keys`` where somebody lets the suite issue keys, ``mlflow_version`` where the
    stack is made of it; else it is asked for.
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
        """Return what a report of a failure says of it: not all of the above."""
        return f"<target {self.name}>"

    @property
    def access_logs(self) -> tuple[str, ...]:
        """Return the logs of MLflow's servers, as far as they can be read."""
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
        """Return an identity that may do as much as anybody."""
        return (*self.who_may("write"), *self.who_may("read"))[0]

    @property
    def truth(self) -> Caller:
        """Return who knows what MLflow holds, and on which route: MLflow itself, or else who may do as much as anybody."""
        return Caller(self.direct, None) if self.direct else Caller(self.routes[0], self.insider)

    def who_may(self, scope: Scope) -> tuple[Identity, ...]:
        """Return the identities that may make calls of that scope."""
        return tuple(i for i in self.identities if i.may(scope))

    def who_may_not(self, scope: Scope) -> tuple[Identity, ...]:
        """Return the identities that may not make calls of that scope."""
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
        """Return the target that ``to_data`` made plain."""
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
    """Return the policy of plain data. Facts files that are older than policies have none."""
    return Policy(data["kind"], tuple((endpoint, access) for endpoint, access in data["overrides"])) if data else Policy()
