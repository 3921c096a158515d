"""Signs: conclusions from facts, with three answers, and how they are combined."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import partial

from mlflow_proxy_e2e.facts.facts import Facts
from mlflow_proxy_e2e.facts.prober import DecidedOtherwiseError, NotAskedError
from mlflow_proxy_e2e.facts.question import Reply
from mlflow_proxy_e2e.target import Route, Scope
from mlflow_proxy_e2e.wire import Request


class Shows(IntEnum):
    """Whether a sign shows. UNKNOWN: the facts that would tell are not available here."""

    NO = 0
    UNKNOWN = 1
    YES = 2


@dataclass(frozen=True)
class Reading:
    """What a sign concludes from the facts.

    Args:
        shows: the answer.
        evidence: the observations that show it: replies, log lines and remarks, as they print. UNKNOWN with evidence is a
            suspicion: something is wrong, and the facts that would tell its causes apart are not available.
        hops: where the problem is. Several if the facts do not tell; none if the sign does not say.
        routes: the names of the affected routes. Empty: all of them.
        was_asked: whether there was time to ask.
        lacks: why some of it could not be asked. Filled in once the whole sign has been read.
    """

    shows: Shows
    evidence: tuple[object, ...] = ()
    hops: tuple[str, ...] = ()
    routes: frozenset[str] = frozenset()
    was_asked: bool = True
    lacks: tuple[str, ...] = ()

    @property
    def is_suspicion(self) -> bool:
        """Tell whether something is wrong, and this may be why. A sign that there was no time to read is no suspicion."""
        return self.shows is Shows.UNKNOWN and bool(self.evidence) and self.was_asked


NO, UNKNOWN = Reading(Shows.NO), Reading(Shows.UNKNOWN)
NOT_ASKED = Reading(Shows.UNKNOWN, was_asked=False)


class Sign:
    """A pure function of facts. Combine signs with ``&``, ``|`` and ``~``.

    Args:
        read: returns the reading. May raise NotAskedError.
        seconds: how long it waits, however fast the target is. The slowest signs are read first.
    """

    def __init__(self, read: Callable[[Facts], Reading], seconds: float = 0) -> None:
        self._read, self.seconds = read, seconds

    def __call__(self, facts: Facts) -> Reading:
        """Return the reading. It is UNKNOWN if a question could not be asked, or is up to the deployment's own policy."""
        try:
            return self._read(facts)
        except DecidedOtherwiseError:
            facts.lack("decided by the deployment's own policy")
            return UNKNOWN
        except NotAskedError:
            return NOT_ASKED

    def __and__(self, other: Sign) -> Sign:
        """Return the sign that shows if both do. The second is not read if the first says NO."""

        def both(facts: Facts) -> Reading:
            if (first := self(facts)).shows is Shows.NO:
                return NO
            if (second := other(facts)).shows is Shows.NO:
                return NO
            seen = [each for each in (first, second) if each.shows is Shows.YES or each.is_suspicion]
            return Reading(
                min(first.shows, second.shows),
                tuple(dict.fromkeys(line for each in seen for line in each.evidence)),
                second.hops or first.hops,
                first.routes | second.routes,
                first.was_asked and second.was_asked,
            )

        return Sign(both, max(self.seconds, other.seconds))

    def __or__(self, other: Sign) -> Sign:
        """Return the sign that shows if one of them does. The second is not read if the first says YES."""

        def either(facts: Facts) -> Reading:
            if (first := self(facts)).shows is Shows.YES:
                return first
            second = other(facts)
            return second if (second.shows, second.is_suspicion) > (first.shows, first.is_suspicion) else first

        return Sign(either, max(self.seconds, other.seconds))

    def __invert__(self) -> Sign:
        """Return the sign that shows if this one does not."""

        def not_so(facts: Facts) -> Reading:
            reading = self(facts)
            return {Shows.YES: NO, Shows.NO: Reading(Shows.YES), Shows.UNKNOWN: replace(UNKNOWN, was_asked=reading.was_asked)}[
                reading.shows
            ]

        return Sign(not_so, self.seconds)

    def at(self, *hops: str) -> Sign:
        """Return the sign that shows if this one does, at these hops. UNKNOWN if it may be at others as well."""

        def there(facts: Facts) -> Reading:
            reading = self(facts)
            if reading.shows is Shows.NO or not set(reading.hops) & set(hops):
                return NO
            return reading if set(reading.hops) <= set(hops) else replace(reading, shows=Shows.UNKNOWN)

        return Sign(there, self.seconds)

    def located(self, *hops: str) -> Sign:
        """Return the same sign, with these hops whenever it shows."""

        def elsewhere(facts: Facts) -> Reading:
            reading = self(facts)
            return replace(reading, hops=hops) if reading.shows is not Shows.NO else NO

        return Sign(elsewhere, self.seconds)

    def noting(self, what: Callable[[Request], str]) -> Sign:
        """Return the same sign with evidence that also says what is special about the request that shows it."""

        def noted(facts: Facts) -> Reading:
            reading = self(facts)
            special = [what(each.question.request) for each in reading.evidence[:1] if isinstance(each, Reply)]
            return replace(reading, evidence=(*reading.evidence[:1], *special, *reading.evidence[1:]))

        return Sign(noted, self.seconds)


UNTOLD = Sign(lambda _: UNKNOWN)  # for causes with the same symptom that no question can tell apart


def any_of(signs: Iterable[Sign]) -> Sign:
    """Return the sign that shows if any of these does."""
    return functools.reduce(operator.or_, signs)


def holds(test: Callable[[Facts], bool | None]) -> Sign:
    """Return the sign that shows if the test is true, and is UNKNOWN if the test returns None. It has no evidence of its own."""
    return Sign(lambda facts: {True: Reading(Shows.YES), False: NO, None: UNKNOWN}[test(facts)])


def shared(name: str, sign: Sign) -> Sign:
    """Return the same sign, read once for all causes that use it. Its name keeps its observations apart."""
    return Sign(lambda facts: facts.once_as(name, sign), sign.seconds)


Test = Callable[[Facts, Route], Reply | None]


def on_routes(test: Test, hop: str = "proxy", *, on_each: bool = False) -> Sign:
    """Return the sign that shows if the test returns a wrong reply each time.

    Args:
        test: applied to the route with the most hops, and to the others if the problem shows there.
        hop: where the problem is, unless only the route through the edge is affected.
        on_each: whether the others are tested in any case.
    """

    def read(facts: Facts) -> Reading:
        if not (wrong := facts.wrong(partial(test, facts), on_each=on_each)):
            return NO
        routes = [reply.question.route for reply in wrong]
        hops = facts.behind(routes, hop)
        return Reading(Shows.YES, (wrong[0], *facts.trace(wrong[0])), hops, frozenset(map(str, routes)))

    return Sign(read)


def on_each_route(test: Test, hop: str = "proxy") -> Sign:
    """Return the sign that shows if the test returns a wrong reply on any of the routes."""
    return on_routes(test, hop, on_each=True)


def needing(*capabilities: str, scope: Scope = "read") -> Sign:
    """Return the sign that shows if the target promises these capabilities, and the diagnosis's identity has the scope for them."""

    def read(facts: Facts) -> Reading:
        missing = sorted(set(capabilities) - facts.target.capabilities)
        for name in missing:
            facts.lack(f"{name} is not among the target's capabilities")
        if not facts.control.may(scope):
            facts.lack(f"needs a key that can {scope}")
        return NO if missing or not facts.control.may(scope) else Reading(Shows.YES)

    return Sign(read)
