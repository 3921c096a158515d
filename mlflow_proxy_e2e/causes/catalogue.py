"""Every cause, by id, and the families that they come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mlflow_proxy_e2e.causes.auth import clocks, decisions, keys, outage
from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.client import environment, route
from mlflow_proxy_e2e.causes.edge import caching as edge_caching
from mlflow_proxy_e2e.causes.edge import firewall, rewriting, routing, target, tls
from mlflow_proxy_e2e.causes.edge import keys as edge_keys
from mlflow_proxy_e2e.causes.edge import limits as edge_limits
from mlflow_proxy_e2e.causes.family import Family
from mlflow_proxy_e2e.causes.mlflow import artifacts, database, hosts, replicas, serving
from mlflow_proxy_e2e.causes.proxy import (
    access,
    bodies,
    caching,
    carriers,
    duplicates,
    headers,
    limits,
    open_paths,
    paths,
    queries,
    refusals,
    secrecy,
    upstream,
)
from mlflow_proxy_e2e.facts import differences, refused, stopped
from mlflow_proxy_e2e.facts.sign import Sign

FAMILIES = (
    Family("client", "no setting on this machine changes what MLflow's client sends", environment),
    Family("client", "the URL leads to a server that speaks HTTP", route),
    Family("reach", "the edge's certificate is valid, and TLS connections succeed", tls),
    Family("reach", "the edge sends every path to the proxy", routing),
    Family("reach", "the edge reaches the proxy, and considers it healthy", target),
    Family("reach", "the auth service decides about keys", outage),
    Family("reach", "the proxy reaches MLflow, and waits for its answers", upstream),
    Family("reach", "MLflow is up, and as new as its clients", serving),
    Family("reach", "MLflow answers under this name and prefix", hosts),
    Family("reach", "MLflow's database works", database),
    Family("gate", "the edge passes keys on to the proxy", edge_keys),
    Family("gate", "keys are read from the headers that clients send them in, and from nowhere else", carriers),
    Family("gate", "valid keys are accepted, and no others", keys),
    Family("gate", "keys start and cease to work in time", clocks),
    Family("gate", "a key can do what its scopes permit, and nothing else", decisions),
    Family("gate", "refusals have the promised status, body and headers", refusals),
    Family("holes", "no request gets around the key check", access),
    Family("holes", "paths that need no key reveal nothing", open_paths),
    Family("holes", "keys and internal addresses stay secret", secrecy),
    Family("forwarding", "paths below the prefix reach MLflow unchanged", paths),
    Family("forwarding", "queries reach MLflow unchanged", queries),
    Family("forwarding", "bodies pass unchanged in both directions", bodies),
    Family("forwarding", "headers pass, and connections stay open", headers),
    Family("forwarding", "the edge adds no redirects, logins or changes of its own", rewriting),
    Family("forwarding", "no firewall refuses what MLflow's clients send", firewall),
    Family("forwarding", "the edge has no limit that MLflow's clients exceed", edge_limits),
    Family("forwarding", "the proxy has no limit that MLflow's clients exceed", limits),
    Family("forwarding", "each call is made once", duplicates),
    Family("forwarding", "the edge caches no files", edge_caching),
    Family("forwarding", "the proxy caches no answers", caching),
    Family("forwarding", "MLflow serves artifacts, from where they are kept", artifacts),
    Family("forwarding", "all MLflow servers hold the same data", replicas),
)


def by_id(causes: Iterable[Cause]) -> Mapping[CauseId, Cause]:
    """Return causes by id. Raises ValueError if two have the same id, or if one explains a cause that does not exist."""
    found: dict[CauseId, Cause] = {}
    for cause in causes:
        if cause.id in found:
            raise ValueError(f"Two causes have the id {cause.id}.")
        found[cause.id] = cause
    for cause in found.values():
        if unknown := set(cause.explains) - set(found):
            raise ValueError(f"{cause.id} explains {', '.join(sorted(unknown))}, which is not in the catalogue.")
    return found


CATALOGUE = by_id(cause for family in FAMILIES for cause in family.causes)
# Problems that no cause in the catalogue names, each described. The first whose sign shows says where the problem is.
UNNAMED: tuple[tuple[str, Sign], ...] = (
    *refused.UNNAMED,
    *(each for family in FAMILIES for each in family.unnamed),
    *stopped.UNNAMED,
    *differences.UNNAMED,
)
