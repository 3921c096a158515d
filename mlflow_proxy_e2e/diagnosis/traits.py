"""Things that a route must leave as they are, and the ways to find out whether it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlflow_proxy_e2e.diagnosis.asking import Reply
from mlflow_proxy_e2e.diagnosis.examination import Examination
from mlflow_proxy_e2e.diagnosis.ground import Ground
from mlflow_proxy_e2e.target import Route, Scope
from mlflow_proxy_e2e.wire import Request

# By which MLflow says that something is not there, or not as it should be.
MLFLOWS_CODES = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "BAD_REQUEST")
Test = Callable[[Examination, Route, Ground | None], Reply | None]


@dataclass(frozen=True)
class Trait:
    """What is found out about each route, and what it means.

    Args:
        causes: ids of what it means where it is wrong behind the edge.
        wrong: returns the reply that shows that something is wrong on a route, or None.
        hop: where it sits, if it does not at the edge.
        at_edge: the ids where it is wrong on the route that crosses the edge alone, if they are others.
        needs: capabilities without which a target need not have it.
        scope: what who asks must be permitted.
    """

    causes: tuple[str, ...]
    wrong: Test
    hop: str = "proxy"
    at_edge: tuple[str, ...] = ()
    needs: frozenset[str] = frozenset()
    scope: Scope = "read"


def by_hop(hops: Sequence[str], behind: tuple[str, ...], at_edge: tuple[str, ...]) -> tuple[str, ...]:
    """Return the ids of what is wrong behind the edge or, where they are others, at it: all of them if nobody can tell."""
    if hops == ("edge",) and at_edge:
        return at_edge
    return (*behind, *(cause for cause in at_edge if "edge" in hops and cause not in behind))


def differs(request: Request, in_what: Callable[[Reply], object]) -> Test:
    """Return what finds out whether something about the answer is not as in MLflow's own."""
    return lambda x, route, _: x.difference(request, None, in_what, route)


def unless(request: Request, right: Callable[[Reply], bool]) -> Test:
    """Return what finds out whether the answer is not right. It counts unless MLflow's own is not right either."""

    def wrong(x: Examination, route: Route, _: Ground | None) -> Reply | None:
        reply = x.ask(route, request)
        if right(reply):
            return None
        direct = x.ask_directly(request)
        return reply if direct is None or right(direct) else None

    return wrong


def by_mlflow(reply: Reply) -> bool:
    """Tell whether a 404 is MLflow's own, for a path that it does not have: the page of the framework that it is made with."""
    return reply.status == 404 and b"The requested URL was not found on the server" in reply.body


def unrouted(request: Request) -> Test:
    """Return what finds out whether a path is not forwarded that MLflow has: who has no rule says 404 in words of their own.

    MLflow's own words prove that it was asked, and does not have the path, unless it says otherwise when it is asked directly.
    """

    def wrong(x: Examination, route: Route, _: Ground | None) -> Reply | None:
        reply, direct = x.ask(route, request), x.ask_directly(request)
        lost = reply.status == 404 and reply.error_code in (None, "ENDPOINT_NOT_FOUND")
        has_it = direct.status != 404 if direct else not by_mlflow(reply)
        return reply if lost and has_it else None

    return wrong


def repeats(text: str) -> Callable[[Reply], bool]:
    """Return what tells whether MLflow's message has a text: it names what it does not have, so that one sees what has arrived.

    Other errors, such as a refusal, say nothing about that.
    """

    def right(reply: Reply) -> bool:
        return reply.error_code not in MLFLOWS_CODES or text in str(reply.json().get("message", ""))

    return right


def status_is_not(*statuses: int) -> Callable[[Reply], bool]:
    """Return what tells whether no answer had one of these statuses."""
    return lambda reply: reply.status not in statuses


def lets_method_pass(reply: Reply) -> bool:
    """Tell whether a method gets to MLflow: who knows no rule for it may answer so, refuse it, or end the connection."""
    ruleless = reply.status == 404 and reply.error_code in (None, "ENDPOINT_NOT_FOUND") and not by_mlflow(reply)
    return reply.status not in (403, 405, 501) and reply.failure != "closed" and not ruleless
