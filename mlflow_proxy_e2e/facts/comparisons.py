"""Tests of a route that many signs are built from: each returns the reply that is wrong, or None."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mlflow_proxy_e2e.facts.facts import Facts
from mlflow_proxy_e2e.facts.question import Reply
from mlflow_proxy_e2e.facts.sandbox import Sandbox, sandbox
from mlflow_proxy_e2e.facts.sign import Sign, on_routes
from mlflow_proxy_e2e.target import Route
from mlflow_proxy_e2e.wire import Request

# MLflow's error codes for something that is missing or invalid.
MLFLOWS_CODES = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "BAD_REQUEST")
Test = Callable[[Facts, Route], Reply | None]
SandboxTest = Callable[[Facts, Route, Sandbox], Reply | None]


def differs(request: Request, in_what: Callable[[Reply], object]) -> Test:
    """Return the test that some property of an answer differs from MLflow's own answer.

    An answer of another status proves nothing about the property in question.
    """

    def wrong(facts: Facts, route: Route) -> Reply | None:
        reply = facts.difference(request, None, in_what, route)
        direct = facts.ask_directly(request) if reply else None
        return reply if reply and direct and reply.status == direct.status else None

    return wrong


def status_differs(request: Request, *statuses: int) -> Test:
    """Return the test that MLflow's own status is replaced with one of these."""

    def wrong(facts: Facts, route: Route) -> Reply | None:
        reply = facts.difference(request, None, lambda reply: reply.status, route)
        return reply if reply and reply.status in statuses else None

    return wrong


def unless(request: Request, right: Callable[[Reply], bool]) -> Test:
    """Return the test that an answer is not right, although MLflow's own is."""

    def wrong(facts: Facts, route: Route) -> Reply | None:
        reply = facts.ask(route, request)
        if right(reply):
            return None
        direct = facts.ask_directly(request)
        return reply if direct is None or right(direct) else None

    return wrong


def by_mlflow(reply: Reply) -> bool:
    """Tell whether a 404 is MLflow's own, for an unknown path: its web framework's default page."""
    return reply.status == 404 and b"The requested URL was not found on the server" in reply.body


def unrouted(request: Request) -> Test:
    """Return a test for an MLflow path that is not forwarded: a hop without a rule for it answers with a 404 of its own.

    MLflow's own 404 means that the request arrived and MLflow lacks the path, unless a direct request shows otherwise.
    """

    def wrong(facts: Facts, route: Route) -> Reply | None:
        reply, direct = facts.ask(route, request), facts.ask_directly(request)
        lost = reply.status == 404 and reply.error_code in (None, "ENDPOINT_NOT_FOUND")
        has_it = direct.status != 404 if direct else not by_mlflow(reply)
        return reply if lost and has_it else None

    return wrong


def repeats(text: str) -> Callable[[Reply], bool]:
    """Return the test that MLflow's error message contains a text, which shows what has reached it.

    Other errors, such as a refusal, say nothing about that.
    """

    def right(reply: Reply) -> bool:
        return reply.error_code not in MLFLOWS_CODES or text in str(reply.json().get("message", ""))

    return right


def lacks(text: str) -> Callable[[Reply], bool]:
    """Return the test that a text is not in MLflow's message, which repeats what it received."""

    def right(reply: Reply) -> bool:
        return reply.error_code not in MLFLOWS_CODES or text not in str(reply.json().get("message", ""))

    return right


def status_is_not(*statuses: int) -> Callable[[Reply], bool]:
    """Return the test that a reply has none of these statuses."""
    return lambda reply: reply.status not in statuses


def turned_away(reply: Reply) -> bool:
    """Tell whether a hop refuses a call as firewalls do: with a page of its own, or by closing the connection.

    Statuses that themselves say what is wrong are left to the causes that they point to.
    """
    if reply.failure or reply.error_code or by_mlflow(reply):
        return reply.failure == "closed"
    is_page = (reply.header("Content-Type") or "").startswith("text/html")
    return reply.status in (400, 403, 404, 405, 406, 410, 415, 418, 444, 501) or (reply.status == 200 and is_page)


def passes(reply: Reply) -> bool:
    """Tell whether a call was not turned away."""
    return not turned_away(reply)


def first_turned_away(plain: Request, *others: Request) -> Test:
    """Return a test for the first of several calls that is turned away, although ``plain``, which is otherwise alike, is not."""

    def wrong(facts: Facts, route: Route) -> Reply | None:
        asked = facts.replies(facts.question(route, request) for request in (plain, *others))
        if turned_away(asked[0]):
            return None
        found = (unless(reply.question.request, passes)(facts, route) for reply in asked[1:] if turned_away(reply))
        return next(filter(None, found), None)

    return wrong


def limited(request: Callable[[int], Request], sizes: Sequence[int], right: Callable[[Reply], bool] = passes) -> Sign:
    """Return the sign that a call is refused from some size on, with the size as evidence.

    Args:
        request: returns the call with a given size.
        sizes: in bytes, smallest first. A call of the first size must not be refused.
        right: tells whether a reply is not a refusal.
    """

    def smallest_refused(facts: Facts, route: Route) -> Reply | None:
        if not right(facts.ask(route, request(sizes[0]))):
            return None
        found = unless(request(sizes[-1]), right)(facts, route)
        low, high = 0, len(sizes) - 1
        while found and high - low > 1:
            middle = (low + high) // 2
            reply = facts.ask(route, request(sizes[middle]))
            low, high, found = (middle, high, found) if right(reply) else (low, middle, reply)
        return found

    def between(sent: Request) -> str:
        refused = next(number for number, size in enumerate(sizes) if request(size) == sent)
        return f"{sizes[refused - 1]} bytes are let through, and {sizes[refused]} are not"

    return on_routes(smallest_refused).noting(between)


def lets_method_pass(reply: Reply) -> bool:
    """Tell whether a method reaches MLflow. A hop that does not allow it may say so, refuse the call, or close the connection."""
    ruleless = reply.status == 404 and reply.error_code in (None, "ENDPOINT_NOT_FOUND") and not by_mlflow(reply)
    return reply.status not in (403, 405, 501) and reply.failure != "closed" and not ruleless


def method_blocked(request: Request) -> Test:
    """Return the test that a method does not reach MLflow on a path where GET does."""

    def wrong(facts: Facts, route: Route) -> Reply | None:
        if (reply := unless(request, lets_method_pass)(facts, route)) is None:
            return None
        get = facts.ask(route, Request("GET", request.path))  # MLflow itself may not allow it there
        return reply if get.status == 405 or get.status != reply.status else None

    return wrong


def in_sandbox(test: SandboxTest, hop: str = "proxy") -> Sign:
    """Return the sign that ``test`` finds a wrong reply, given an experiment of the diagnosis's own."""

    def with_sandbox(facts: Facts, route: Route) -> Reply | None:
        own = sandbox(facts)
        return test(facts, route, own) if own and own.is_there else None

    return on_routes(with_sandbox, hop)
