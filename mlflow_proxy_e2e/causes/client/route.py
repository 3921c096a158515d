"""A route's URL, and what a client runs into at its address before any HTTP is exchanged."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import ALL
from mlflow_proxy_e2e.facts.stopped import first_connection, stops

CAUSES = (
    Cause(
        id=CauseId("route-unresolved"),
        hop="client",
        severity="down",
        symptom="every call through the route fails because its host name is not found",
        what="the host name in the route's URL does not resolve",
        remedy="correct the URL, or the name's DNS record",
        shows=first_connection("unresolved"),
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("route-refused"),
        hop="client",
        severity="down",
        symptom="connection refused on every call through the route",
        what="nothing listens at the address in the route's URL",
        remedy="correct the URL, or start the service that should listen there",
        shows=first_connection("refused"),
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("route-silent"),
        hop="client",
        severity="down",
        symptom="every call through the route times out",
        what="the address in the route's URL does not answer",
        remedy="check the address, and the security groups and firewalls on the way to it",
        shows=first_connection("unreachable"),
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("route-closed"),
        hop="client",
        severity="down",
        symptom="the connection is closed without an answer on every call through the route",
        what="the service at the route's address closes connections without answering",
        remedy="look for the reason in that service's log",
        shows=stops(lambda _, seen: seen.by_every_carrier and seen.reply.failure == "closed" and seen.nobody.status is None),
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("route-not-http"),
        hop="client",
        severity="down",
        symptom="clients cannot parse the answer to any call through the route",
        what="the service at the route's address does not speak HTTP",
        remedy="correct the port in the URL",
        shows=first_connection("not-http"),
        reddens=(ALL,),
    ),
)
