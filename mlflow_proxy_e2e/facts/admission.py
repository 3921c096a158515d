"""Identities that are let in although they must be refused, and targets that let everybody in."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.facts.facts import READ, Facts, together
from mlflow_proxy_e2e.facts.outage import decision, health, only_without_logs
from mlflow_proxy_e2e.facts.question import Question, Reply
from mlflow_proxy_e2e.facts.sandbox import HARMLESS_WRITE
from mlflow_proxy_e2e.facts.sign import NO, Reading, Shows, Sign
from mlflow_proxy_e2e.target import Identity, Route
from mlflow_proxy_e2e.wire import Request


def let_in(facts: Facts) -> Mapping[str, Sequence[Reply]]:
    """Return the calls that must be refused but were let in: by the identity's name, one reply for each affected route."""
    return facts.once(_let_in)


def _let_in(facts: Facts) -> Mapping[str, Sequence[Reply]]:
    denied = [identity for identity in facts.target.identities if identity.refused]
    if not denied:
        facts.lack("needs a key that must be refused")
    routes = facts.open_routes
    facts.replies(
        facts.question(route, READ, who, carrier) for route in routes for who in denied for carrier in facts.target.carriers
    )
    return {who.name: wrong for who in denied if (wrong := facts.wrong(partial(_first_let_in, facts, who), on_each=True))}


def _first_let_in(facts: Facts, who: Identity, route: Route) -> Reply | None:
    replies = facts.replies(facts.question(route, READ, who, carrier) for carrier in facts.target.carriers)
    return next((reply for reply in replies if reply.works), None)


def is_open_to_everybody(facts: Facts) -> bool:
    """Tell whether every identity that must be refused as unauthenticated is let in."""
    without_key = {who.name for who in facts.target.identities if who.refused == "unauthenticated"}
    return bool(without_key) and without_key <= let_in(facts).keys()


def open_gate(test: Callable[[Facts, tuple[str, ...]], bool | None]) -> Sign:
    """Return the sign that everybody is let in and ``test`` holds, which is given the hops where the problem may be."""

    def read(facts: Facts) -> Reading:
        if not is_open_to_everybody(facts):
            return NO
        wrong = next(iter(let_in(facts).values()))
        routes = [reply.question.route for reply in wrong]
        hops = facts.behind(routes)
        if (shows := test(facts, hops)) is False:
            return NO
        evidence = (wrong[0], f"let in: {', '.join(sorted(let_in(facts)))}", *filter(None, (health(facts), decision(facts))))
        return Reading(Shows.UNKNOWN if shows is None else Shows.YES, evidence, hops, frozenset(map(str, routes)))

    return Sign(read)


def _is_refused(facts: Facts, request: Request) -> bool:
    """Tell whether a call without a key is refused, on the first route that is open to everybody."""
    wrong = next(iter(let_in(facts).values()))
    status = facts.reply(Question(wrong[0].question.route, request)).status or 0
    return status in (401, 403, facts.target.contract.unauthenticated) or 300 <= status < 400  # to a login page


def _fresh_read(facts: Facts) -> Request:
    return READ.marked(facts.token())


def is_kept_for_others(facts: Facts) -> bool:
    """Tell whether only calls that were made before are open to everybody: a new one is refused."""
    return _is_refused(facts, _fresh_read(facts))


def is_open_in_part(facts: Facts) -> bool:
    """Tell whether another path is refused, one that nobody can have called before, or another method."""
    others = (Request("GET", f"/api/2.0/mlflow-artifacts/artifacts/{facts.token()}"), HARMLESS_WRITE)
    return any(_is_refused(facts, request) for request in others)


def wholly_open(test: Callable[[Facts, tuple[str, ...]], bool | None]) -> Sign:
    """Return the sign that everything is open to everybody and ``test`` holds."""
    return open_gate(lambda facts, _: not is_kept_for_others(facts) and not is_open_in_part(facts)) & open_gate(test)


def auth_is_ill(facts: Facts) -> bool | None:
    """Tell whether the auth service of the lab's own stack does not answer as it should."""
    if (asked := health(facts)) is None:
        return None
    decided = decision(facts)
    return asked.status != 200 or (decided is not None and decided.status != 200)


def wrongly_let_in(is_who: Callable[[Identity], bool]) -> Sign:
    """Return the sign that such an identity is let in although it must be refused, while others are refused."""

    def read(facts: Facts) -> Reading:
        if (wrong := _of_identity(facts, is_who, alone=False)) is None:
            return NO
        return Reading(Shows.YES, (wrong[0], *_decision_lines(facts, wrong)), _decided_by(facts, wrong), _routes(wrong))

    return Sign(read)


def let_in_without_asking(facts: Facts) -> Reading:
    """Tell whether an identity is let in that the auth service was not asked about, by the auth service's log."""
    if (wrong := _of_identity(facts, lambda _: True, alone=True)) is None:
        return NO
    hops = facts.behind(reply.question.route for reply in wrong)
    return Reading(Shows.YES, (wrong[0], "the auth service was not asked"), hops, _routes(wrong))


def _of_identity(facts: Facts, is_who: Callable[[Identity], bool], *, alone: bool) -> Sequence[Reply] | None:
    """Return the calls by such an identity that were let in: one that the auth service was not asked about, or any other."""
    if is_open_to_everybody(facts):
        return None
    of_who = (wrong for name, wrong in let_in(facts).items() if is_who(facts.target.identity(name)))
    return next((wrong for wrong in of_who if decided_alone(facts, wrong) is alone), None)


def decided_alone(facts: Facts, wrong: Sequence[Reply]) -> bool:
    """Tell whether the auth service's log does not mention a call that was let in."""
    return facts.has_logs and not facts.lines_at("auth", wrong[0].request_id)


def _decision_lines(facts: Facts, wrong: Sequence[Reply]) -> list[str]:
    return list(map(str, facts.lines_at("auth", wrong[0].request_id)))


def _decided_by(facts: Facts, wrong: Sequence[Reply]) -> tuple[str, ...]:
    """Return the hops that may have decided: the auth service, if its log shows that it was asked."""
    hops = facts.behind((reply.question.route for reply in wrong), "auth")
    return hops if hops == ("edge",) or facts.has_logs else together("auth", "proxy", *hops)


def decided_by(sign: Sign) -> Sign:
    """Return the sign of a wrong decision, at the hops that may have made it."""

    def read(facts: Facts) -> Reading:
        reading = sign(facts)
        if reading.shows is not Shows.YES or reading.hops == ("edge",) or facts.has_logs:
            return reading
        return Reading(reading.shows, reading.evidence, together("auth", "proxy", *reading.hops), reading.routes)

    return Sign(read)


def _routes(wrong: Sequence[Reply]) -> frozenset[str]:
    return frozenset(str(reply.question.route) for reply in wrong)


def skew(facts: Facts) -> float | None:
    """Return how many seconds the auth service's clock is ahead of this machine's, or None if it cannot be asked for the time."""
    return facts.observe("skew of the auth service's clock", lambda: _skew(facts))


def _skew(facts: Facts) -> float | None:
    asked = health(facts)
    said = email.utils.parsedate_tz(asked.header("Date") or "") if asked else None
    return round(email.utils.mktime_tz(said) - time.time(), 1) if said else None


def clock_is_off(test: Callable[[float], bool]) -> Sign:
    """Return the sign that the auth service's clock is off by so much. UNKNOWN where it cannot be asked."""

    def read(facts: Facts) -> Reading:
        seconds = skew(facts)
        if seconds is None:
            return Reading(Shows.UNKNOWN)
        if not test(seconds):
            return NO
        return Reading(Shows.YES, (health(facts), f"its clock differs from this machine's by {seconds:.0f} s"), ("auth",))

    return Sign(read)


# These kinds of bad key have causes of their own. For any other, only logs show whether the proxy or the auth service let it in.
OF_THEIR_OWN = ("revoked", "expired")
_other_key_let_in = wrongly_let_in(lambda who: who.refused == "unauthenticated" and who.name not in OF_THEIR_OWN)
accepted_by_auth = _other_key_let_in & ~only_without_logs
accepted_by_proxy = Sign(let_in_without_asking) | (_other_key_let_in & only_without_logs)

clock_behind = clock_is_off(lambda seconds: seconds < -timeouts.SKEW)
clock_ahead = clock_is_off(lambda seconds: seconds > timeouts.SKEW)


def let_write_as(facts: Facts, route: Route, reader: Identity, request: Request, name: Request | None = None) -> Reply | None:
    """Return the reply to a write to something that does not exist, if MLflow processed it: some refusals are disguised as 404.

    ``name`` is the same write spelled normally, if ``request`` is an odd spelling of it.
    """
    reply = facts.ask(route, request, reader)
    if reply.error_code != "RESOURCE_DOES_NOT_EXIST" or facts.reply(Question(route, request)).body == reply.body:
        return None  # refused, or let in even without a key: where no key is checked, no scope is
    return reply if reply.body == facts.ask(route, name or request).body else None


def readers(facts: Facts) -> list[Identity]:
    """Return the identities that are allowed to read but not to write."""
    found = [identity for identity in facts.target.who_may("read") if not identity.may("write")]
    if not found:
        facts.lack("needs a key that can read but not write")
    return found
