"""Calls that fail now and then: who else is answered in several ways tells where that may be."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.facts.facts import EDGE_ROUTE, READ, Facts, together
from mlflow_proxy_e2e.facts.question import Question, Reply

SEVERAL = 4  # times that a call is made again which has failed
MANY = 24  # times that it is made to see whether it ever fails: one in eight does with a probability of 96 %
ABOUT_KEYS = re.compile(rb"\bkeys?\b|\bauth|credential|\btokens?\b", re.IGNORECASE)


@dataclass(frozen=True)
class Intermittent:
    """A call that has failed, the same one when it did not, and the hops at which that may be."""

    failed: Reply
    good: Reply
    hops: tuple[str, ...]


def intermittent(facts: Facts, failures: Iterable[Reply]) -> Intermittent | None:
    """Return what fails with a good key and succeeds when it is asked for again, if anything does."""
    for failed in failures:
        if failed.seconds > timeouts.NO_TIME_OUT:
            continue  # who is slow is so every time
        if good := next((reply for reply in facts.several_times(failed.question, SEVERAL) if reply.works), None):
            return Intermittent(failed, good, where_intermittent(facts, failed))
    return None


def differs_when_repeated(facts: Facts, reply: Reply) -> bool:
    """Tell whether a call is answered with another status when it is made again."""
    return any(again.status != reply.status for again in facts.several_times(reply.question, SEVERAL))


def where_intermittent(facts: Facts, failed: Reply) -> tuple[str, ...]:
    """Return the hops at which it may be that a call fails now and then."""
    own_words = failed.error_code and (failed.status in facts.refusals or ABOUT_KEYS.search(failed.body))
    by_words = ("proxy", "auth") if own_words else ()
    route, inner = failed.question.route, [each for each in facts.target.routes if each.name != EDGE_ROUTE]
    if route.name == EDGE_ROUTE and inner:
        if not _varies(facts, facts.question(inner[0], READ)):
            return together("edge", *by_words)
        hops: tuple[str, ...] = ("proxy",)
    else:
        hops = facts.behind([route])
    refused = [Question(route, READ), *([facts.question(route, READ, facts.stranger)] if facts.stranger else [])]
    if any(_varies(facts, question) for question in refused):
        return together(*hops, "proxy", "auth")
    # Everybody who is refused gets to the proxy, and none of them is affected.
    return together(*hops, *by_words) if by_words else ("proxy",)


def _varies(facts: Facts, question: Question) -> bool:
    """Tell whether the same call is answered in several ways."""
    many = [replace(question, request=question.request.marked(facts.token())) for _ in range(MANY)]
    return len({reply.status for reply in facts.replies(many)}) > 1
