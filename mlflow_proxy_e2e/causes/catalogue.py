"""Every cause there is, by its id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mlflow_proxy_e2e.causes.auth import clocks, decisions, keys, outage
from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.client import environment, route
from mlflow_proxy_e2e.causes.edge import limits as edge_limits
from mlflow_proxy_e2e.causes.edge import rewriting, routing, target, tls
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
    *(routing, rewriting, tls, target, edge_limits),
    *(upstream, paths, queries, access, carriers, refusals, secrecy, bodies, headers, limits, duplicates, caching, open_paths),
    *(decisions, keys, clocks, outage),
    *(serving, hosts, artifacts, database, replicas),
)


def by_id(causes: Iterable[Cause]) -> Mapping[CauseId, Cause]:
    """Return causes by their ids. Raises ValueError if two have the same, or one explains what there is not."""
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
# What is wrong that no cause has a name for, in words: the first that shows tells where.
UNNAMED: tuple[tuple[str, Sign], ...] = (
    *refused.UNNAMED,
    *(each for family in FAMILIES for each in getattr(family, "UNNAMED", ())),
    *stopped.UNNAMED,
    *differences.UNNAMED,
)
