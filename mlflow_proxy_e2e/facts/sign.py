"""Signs: what is concluded from facts, in three answers, and how conclusions are combined."""

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
from mlflow_proxy_e2e.target import Route


class Shows(IntEnum):
    """Whether a sign shows. UNKNOWN: the facts that would tell cannot be had here."""

    NO = 0
    UNKNOWN = 1
    YES = 2


@dataclass(frozen=True)
class Reading:
    """What a sign says of the facts.

    Args:
        shows: the answer.
        evidence: what was observed that is wrong: replies, lines of logs and remarks, as they print. UNKNOWN with evidence is a
            suspicion: something is wrong, and what would tell its causes apart cannot be had.
        hops: where it is. Several, if the facts do not tell; none, if the sign does not say.
        routes: the names of the routes that are affected. Empty: all of them.
        was_asked: whether there was time to ask.
    """

    shows: Shows
    evidence: tuple[object, ...] = ()
    hops: tuple[str, ...] = ()
    routes: frozenset[str] = frozenset()
    was_asked: bool = True

    @property
    def is_suspicion(self) -> bool:
        """Tell whether something is wrong, and this may be why. Where there was no time to ask, nothing is known to be wrong."""
        return self.shows is Shows.UNKNOWN and bool(self.evidence) and self.was_asked


NO, UNKNOWN = Reading(Shows.NO), Reading(Shows.UNKNOWN)
NOT_ASKED = Reading(Shows.UNKNOWN, was_asked=False)


class Sign:
    """A pure function of facts. Combine signs with ``&``, ``|`` and ``~``.

    Args:
        read: returns what it says. May raise NotAskedError.
        seconds: how long it has to wait by itself, whatever the target does: what takes longest is read first.
    """

    def __init__(self, read: Callable[[Facts], Reading], seconds: float = 0) -> None:
        self._read, self.seconds = read, seconds

    def __call__(self, facts: Facts) -> Reading:
        """Return what it says. What could not be asked is UNKNOWN, and so is what the deployment decides in its own way."""
        try:
            return self._read(facts)
        except DecidedOtherwiseError:
            return UNKNOWN
        except NotAskedError:
            return NOT_ASKED

    def __and__(self, other: Sign) -> Sign:
        """Return the sign that shows where both do. The other is not asked where this one says NO."""

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
        """Return the sign that shows where one of them does. The other is not asked where this one says YES."""

        def either(facts: Facts) -> Reading:
            if (first := self(facts)).shows is Shows.YES:
                return first
            second = other(facts)
            return second if (second.shows, second.is_suspicion) > (first.shows, first.is_suspicion) else first

        return Sign(either, max(self.seconds, other.seconds))

    def __invert__(self) -> Sign:
        """Return the sign that shows where this one does not."""

        def not_so(facts: Facts) -> Reading:
            reading = self(facts)
            return {Shows.YES: NO, Shows.NO: Reading(Shows.YES), Shows.UNKNOWN: replace(UNKNOWN, was_asked=reading.was_asked)}[
                reading.shows
            ]

        return Sign(not_so, self.seconds)

    def at(self, *hops: str) -> Sign:
        """Return the sign that shows where this one does, and is at these hops: UNKNOWN where it may be at others, too."""

        def there(facts: Facts) -> Reading:
            reading = self(facts)
            if reading.shows is Shows.NO or not set(reading.hops) & set(hops):
                return NO
            return reading if set(reading.hops) <= set(hops) else replace(reading, shows=Shows.UNKNOWN)

        return Sign(there, self.seconds)

    def located(self, *hops: str) -> Sign:
        """Return the same sign, of something that is at these hops wherever it shows."""

        def elsewhere(facts: Facts) -> Reading:
            reading = self(facts)
            return replace(reading, hops=hops) if reading.shows is not Shows.NO else NO

        return Sign(elsewhere, self.seconds)


UNTOLD = Sign(lambda _: UNKNOWN)  # for causes of the same symptom that nothing which can be asked tells apart


def any_of(signs: Iterable[Sign]) -> Sign:
    """Return the sign that shows where one of these does."""
    return functools.reduce(operator.or_, signs)


def holds(test: Callable[[Facts], bool | None]) -> Sign:
    """Return the sign that shows where the test is true, and is UNKNOWN where it is None. It brings no evidence of its own."""
    return Sign(lambda facts: {True: Reading(Shows.YES), False: NO, None: UNKNOWN}[test(facts)])


def shared(name: str, sign: Sign) -> Sign:
    """Return the same sign, read once for all the causes that it is part of. Its name keeps what it observes apart."""
    return Sign(lambda facts: facts.once_as(name, sign), sign.seconds)


Test = Callable[[Facts, Route], Reply | None]


def on_routes(test: Test, hop: str = "proxy", *, on_each: bool = False) -> Sign:
    """Return the sign that shows where the test returns a reply that is wrong, each time that it is asked.

    Args:
        test: is asked of the route that crosses most hops, and of the others where it shows there.
        hop: where it is, unless it shows on the route alone that crosses the edge.
        on_each: whether the others are asked in any case.
    """

    def read(facts: Facts) -> Reading:
        if not (wrong := facts.wrong(partial(test, facts), on_each=on_each)):
            return NO
        routes = [reply.question.route for reply in wrong]
        hops = facts.behind(routes, hop)
        return Reading(Shows.YES, (wrong[0], *facts.trace(wrong[0])), hops, frozenset(map(str, routes)))

    return Sign(read)


def on_each_route(test: Test, hop: str = "proxy") -> Sign:
    """Return the sign that shows where the test returns a reply that is wrong, on any of the routes."""
    return on_routes(test, hop, on_each=True)


def needing(*capabilities: str, scope: str = "read") -> Sign:
    """Return the sign that shows where the target promises these capabilities, and whoever asks may do as much."""
    return holds(lambda facts: set(capabilities) <= facts.target.capabilities and facts.control.may(scope))  # type: ignore[arg-type]
