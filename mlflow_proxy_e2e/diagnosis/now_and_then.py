"""Calls that fail now and then: who else is answered in several ways tells where that may be."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import replace

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.diagnosis.asking import Question, Reply
from mlflow_proxy_e2e.diagnosis.examination import EDGE_ROUTE, READ, Examination, Finding, together, works
from mlflow_proxy_e2e.diagnosis.outage import ABOUT_KEYS

SEVERAL = 4  # times that a call is made again which has failed
MANY = 24  # times that it is made to see whether it ever fails: one in eight does with a probability of 96 %
WHAT = "the same call fails now and then"


def now_and_then(x: Examination, failures: Iterable[Reply]) -> Finding | None:
    """Return what fails with a good key and succeeds when it is asked for again, if anything does."""
    for failed in failures:
        if failed.seconds > timeouts.NO_TIME_OUT:
            continue  # who is slow is so every time
        if good := next(filter(works, x.asker.several_times(failed.question, SEVERAL)), None):
            where = where_now_and_then(x, failed)
            stale = (failed.status or 0) >= 500 and where == ("proxy",) and not ABOUT_KEYS.search(failed.body)
            return Finding(("one-address-stale",) if stale else (), where, (failed, good), WHAT)
    return None


def differs_when_repeated(x: Examination, reply: Reply) -> bool:
    """Tell whether a call is answered with another status when it is made again."""
    return any(again.status != reply.status for again in x.asker.several_times(reply.question, SEVERAL))


def where_now_and_then(x: Examination, failed: Reply) -> tuple[str, ...]:
    """Return the hops at which it may be that a call fails now and then."""
    own_words = failed.error_code and (failed.status in x.refusals or ABOUT_KEYS.search(failed.body))
    by_words = ("proxy", "auth") if own_words else ()
    route, inner = failed.question.route, [each for each in x.target.routes if each.name != EDGE_ROUTE]
    if route.name == EDGE_ROUTE and inner:
        if not _varies(x, x.question(inner[0], READ)):
            return together("edge", *by_words)
        hops: tuple[str, ...] = ("proxy",)
    else:
        hops = x.behind([route])
    refused = [Question(route, READ), *([x.question(route, READ, x.stranger)] if x.stranger else [])]
    if any(_varies(x, question) for question in refused):
        return together(*hops, "proxy", "auth")
    return (
        together(*hops, *by_words) if by_words else ("proxy",)
    )  # everybody who is refused gets to it, and none of them is affected


def _varies(x: Examination, question: Question) -> bool:
    """Tell whether the same call is answered in several ways."""
    many = [replace(question, request=question.request.marked(uuid.uuid4().hex)) for _ in range(MANY)]
    return len({reply.status for reply in x.asker.ask_all(many)}) > 1
