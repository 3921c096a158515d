"""Calls with a valid key that fail: on which routes, with which reply, and at which hop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.facts.facts import EDGE_ROUTE, READ, Facts, together
from mlflow_proxy_e2e.facts.intermittent import Intermittent, intermittent
from mlflow_proxy_e2e.facts.question import Question, Reply
from mlflow_proxy_e2e.facts.sign import NO, UNKNOWN, Reading, Shows, Sign
from mlflow_proxy_e2e.target import Route
from mlflow_proxy_e2e.wire import Request

SPLIT_TWIN = Request("GET", f"/ajax-api{READ.path.removeprefix('/api')}")  # the same read, as MLflow's pages make it
NO_FLAGS = "-"  # what Envoy logs if nothing went wrong on the way: the answer is its own, or that of the next hop


@dataclass(frozen=True)
class Stopped:
    """A good key that does not get through.

    Args:
        route: the route that was asked.
        replies: the replies to the key, one for each carrier.
        nobody: the reply to the same call without a key.
        hops: where the problem may be, as far as the affected routes tell.
        routes: the names of the affected routes.
    """

    route: Route
    replies: tuple[Reply, ...]
    nobody: Reply
    hops: tuple[str, ...]
    routes: frozenset[str]

    @property
    def reply(self) -> Reply:
        """Return the first reply that is not MLflow's answer."""
        return next(reply for reply in self.replies if not reply.works)

    @property
    def by_every_carrier(self) -> bool:
        """Tell whether the key fails with every carrier."""
        return not any(reply.works for reply in self.replies)

    @property
    def status(self) -> int:
        """Return the status of the reply, or 0 without one."""
        return self.reply.status or 0

    @property
    def is_slow(self) -> bool:
        """Tell whether the reply took so long that a hop must have been waiting."""
        return self.reply.seconds > timeouts.NO_TIME_OUT

    @property
    def at_edge(self) -> bool:
        """Tell whether the problem is at the edge: the same call succeeds behind it."""
        return self.hops == ("edge",)


def failing_mlflow(facts: Facts) -> Reply | None:
    """Return MLflow's own reply to a read if that is wrong, too, and a good key does not get through."""
    direct = facts.ask_directly(READ) if facts.broken else None
    return direct if direct and not direct.works else None


def kept_refusals(facts: Facts) -> list[Reply]:
    """Return the refusals of a good key, if it is refused only what a caller without a key was refused before."""
    return facts.once(_kept_refusals)


def _kept_refusals(facts: Facts) -> list[Reply]:
    unauthenticated = facts.target.contract.unauthenticated
    if not any(reply.status == unauthenticated for route in facts.broken for reply in facts.good(route)):
        return []

    def refused(route: Route) -> Reply | None:
        refused_before, fresh = (READ.marked(facts.token()) for _ in range(2))
        facts.reply(Question(route, refused_before))
        reply = facts.ask(route, refused_before)
        return reply if reply.status == unauthenticated and facts.ask(route, fresh).works else None

    return [reply for route in facts.target.routes if (reply := facts.reproduced(refused, route))]


def now_and_then(facts: Facts) -> Intermittent | None:
    """Return what fails with a good key now and then, or None."""
    return facts.once(_now_and_then)


def _now_and_then(facts: Facts) -> Intermittent | None:
    failed = [reply for route in facts.broken for reply in facts.good(route) if not reply.works]
    return intermittent(facts, failed)


def stopped(facts: Facts) -> Stopped | None:
    """Return how a good key is stopped every time on its way to a working MLflow, or None if it is not."""
    return facts.once(_stopped)


def _stopped(facts: Facts) -> Stopped | None:
    affected = facts.broken
    if not affected or failing_mlflow(facts) or kept_refusals(facts) or now_and_then(facts):
        return None
    inner = [route for route in affected if route.name != EDGE_ROUTE]
    route = (inner or affected)[0]
    nobody = facts.reply(Question(route, READ))
    return Stopped(route, tuple(facts.good(route)), nobody, facts.behind(affected), frozenset(map(str, affected)))


Test = Callable[[Facts, Stopped], bool | None]


def stops(test: Test, hops: Callable[[Stopped], tuple[str, ...]] | None = None) -> Sign:
    """Return the sign that shows if a good key is stopped and the test holds. UNKNOWN if the test returns None.

    ``hops`` says where the problem is, if the affected routes do not.
    """

    def read(facts: Facts) -> Reading:
        if (seen := stopped(facts)) is None or (holds := test(facts, seen)) is False:
            return NO
        if holds is None:
            return UNKNOWN
        evidence = (seen.reply, seen.nobody, *facts.trace(seen.reply))
        return Reading(Shows.YES, evidence, hops(seen) if hops else seen.hops, seen.routes)

    return Sign(read)


# Tests that tell the causes apart.

answered = stops(lambda _, seen: seen.reply.failure is None)
at_edge = stops(lambda _, seen: seen.at_edge, lambda _: ("edge",))
slow = stops(lambda _, seen: seen.is_slow)
by_every_carrier = stops(lambda _, seen: seen.by_every_carrier)


def status(*statuses: int) -> Sign:
    """Return the sign that a good key gets one of these statuses, with every carrier."""
    return stops(lambda _, seen: seen.by_every_carrier and seen.status in statuses)


def first_connection(*kinds: str) -> Sign:
    """Return the sign that the route's first hop does not answer a good key, for this reason."""
    return stops(lambda _, seen: seen.by_every_carrier and seen.reply.failure in kinds, lambda seen: seen.hops[:1])


def flags(facts: Facts, reply: Reply, hop: str) -> str | None:
    """Return the response flags in Envoy's log of a request, or None without such a log."""
    return ",".join(facts.said(reply, hop, "flags")) if facts.has_logs else None


def flag(hop: str, *wanted: str) -> Sign:
    """Return the sign that a hop's log has one of these response flags. UNKNOWN without logs."""

    def test(facts: Facts, seen: Stopped) -> bool | None:
        return None if (said := flags(facts, seen.reply, hop)) is None else any(each in said for each in wanted)

    return stops(test)


def logged(hop: str, field: str, test: Callable[[list[str]], bool]) -> Sign:
    """Return the sign that a field of a hop's log has one of these values. UNKNOWN without logs."""
    return stops(lambda facts, seen: test(facts.said(seen.reply, hop, field)) if facts.has_logs else None)


def fails_too(facts: Facts, seen: Stopped) -> Reply | None:
    """Return the reply to the same call with an unknown key if it fails in the same way, where a refusal is expected.

    A call with no key would prove nothing: the proxy can refuse it without asking the auth service.
    """
    if facts.stranger is None:
        return None
    question = seen.reply.question
    again = facts.reply(Question(question.route, question.request, facts.stranger, question.carrier))
    return again if (again.status, again.failure) == (seen.reply.status, seen.reply.failure) else None


def _is_mlflows_own_error(_: Facts, seen: Stopped) -> bool:
    """Tell whether MLflow itself says what is wrong with it, in an error that was passed on unchanged."""
    said = seen.reply.body.lower()
    return (seen.status == 503 and b"artifacts-only" in said) or (bool(seen.reply.error_code) and b"database" in said)


def is_start_page(reply: Reply) -> bool:
    """Tell whether this is the start page of MLflow's UI."""
    return reply.status == 200 and b"<title>MLflow</title>" in reply.body and b"static-files/" in reply.body


own_words = stops(_is_mlflows_own_error)


twin_works = stops(lambda facts, seen: facts.ask(seen.route, SPLIT_TWIN).works)
unrouted_path = status(404) & ~twin_works
start_page = status(200) & stops(lambda _, seen: is_start_page(seen.reply))
page_in_its_place = status(200) & stops(lambda _, seen: b"<html" in seen.reply.body.lower()) & ~start_page
mlflow_unknown = stops(
    lambda facts, _: None if facts.direct is None else False, lambda seen: together(*seen.hops, "proxy", "mlflow")
)

UNNAMED = (
    ("the answer is 200, but not MLflow's", status(200)),
    ("a good key does not get through", by_every_carrier),
    ("a good key does not get through with one of its carriers", answered & ~by_every_carrier),
)
