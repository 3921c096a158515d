"""Every cause, by id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mlflow_proxy_e2e.causes.auth import clocks, decisions, keys, outage
from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.client import environment, route
from mlflow_proxy_e2e.causes.edge import caching as edge_caching
from mlflow_proxy_e2e.causes.edge import firewall, rewriting, routing, target, tls
from mlflow_proxy_e2e.causes.edge import keys as edge_keys
from mlflow_proxy_e2e.causes.edge import limits as edge_limits
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
    *(environment, route),
    *(routing, rewriting, edge_keys, tls, target, edge_limits, firewall, edge_caching),
    *(upstream, paths, queries, access, carriers, refusals, secrecy, bodies, headers, limits, duplicates, caching, open_paths),
    *(decisions, keys, clocks, outage),
    *(serving, hosts, artifacts, database, replicas),
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


CATALOGUE = by_id(cause for family in FAMILIES for cause in family.CAUSES)
# Problems that no cause in the catalogue names, each described. The first whose sign shows says where the problem is.
UNNAMED: tuple[tuple[str, Sign], ...] = (
    *refused.UNNAMED,
    *(each for family in FAMILIES for each in getattr(family, "UNNAMED", ())),
    *stopped.UNNAMED,
    *differences.UNNAMED,
)
