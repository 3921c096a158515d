"""Calls that fail now and then. Which other calls do so, too, tells at which hop that may be."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.facts.facts import EDGE_ROUTE, READ, Facts, together
from mlflow_proxy_e2e.facts.question import Question, Reply

SEVERAL = 4  # repetitions of a call that has failed
MANY = 24  # repetitions to see whether a call ever fails: a failure rate of one in eight shows with a probability of 96 %
ABOUT_KEYS = re.compile(rb"\bkeys?\b|\bauth|credential|\btokens?\b", re.IGNORECASE)


@dataclass(frozen=True)
class Intermittent:
    """A call that has failed, the same call when it succeeded, and the hops where the problem may be."""

    failed: Reply
    good: Reply
    hops: tuple[str, ...]


def intermittent(facts: Facts, failures: Iterable[Reply]) -> Intermittent | None:
    """Return a call with a good key that fails and then succeeds when it is repeated, or None."""
    for failed in failures:
        if failed.seconds > timeouts.NO_TIME_OUT:
            continue  # slow calls are slow every time
        if good := next((reply for reply in facts.several_times(failed.question, SEVERAL) if reply.works), None):
            return Intermittent(failed, good, where_intermittent(facts, failed))
    return None


def differs_when_repeated(facts: Facts, reply: Reply) -> bool:
    """Tell whether a call gets another status when it is repeated."""
    return any(again.status != reply.status for again in facts.several_times(reply.question, SEVERAL))


def where_intermittent(facts: Facts, failed: Reply) -> tuple[str, ...]:
    """Return the hops that may make a call fail now and then."""
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
    # Calls that are refused reach the proxy, and none of them is affected.
    return together(*hops, *by_words) if by_words else ("proxy",)


def _varies(facts: Facts, question: Question) -> bool:
    """Tell whether the same call gets different answers."""
    many = [replace(question, request=question.request.marked(facts.token())) for _ in range(MANY)]
    return len({reply.status for reply in facts.replies(many)}) > 1
