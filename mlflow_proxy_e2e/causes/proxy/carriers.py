"""Where in a request the proxy looks for the key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import ODD_KEYS
from mlflow_proxy_e2e.causes.snippets import ASK
from mlflow_proxy_e2e.facts.admission import is_open_to_everybody
from mlflow_proxy_e2e.facts.facts import READ, Facts
from mlflow_proxy_e2e.facts.question import Question, Reply
from mlflow_proxy_e2e.facts.sign import Sign, holds, on_each_route
from mlflow_proxy_e2e.facts.stopped import Stopped, stops
from mlflow_proxy_e2e.target import Identity, Route, Secret
from mlflow_proxy_e2e.wire import Request


def _accepted(who: Callable[[str], Identity | None], request: Callable[[str], Request] = lambda _: READ) -> Sign:
    """Return the sign that an altered good key is accepted, or a good one in a place where no key belongs."""

    def wrong(facts: Facts, route: Route) -> Reply | None:
        if facts.control.key is None or is_open_to_everybody(facts):
            return None
        key = facts.control.key.reveal()
        caller = who(key)
        reply = facts.ask(route, request(key), caller) if caller else facts.reply(Question(route, request(key)))
        return reply if reply.works else None

    return on_each_route(wrong)


def _ignored(facts: Facts, seen: Stopped) -> bool:
    refused = not seen.by_every_carrier and seen.status == facts.target.contract.unauthenticated
    return refused and seen.reply.question.carrier == "x-api-key"


ignored = stops(_ignored)
may_be_logged = holds(lambda facts: "destructive" in facts.target.capabilities)


CAUSES = (
    Cause(
        id=CauseId("carrier-ignored"),
        hop="proxy",
        severity="down",
        symptom="401 for good keys sent as X-API-Key",
        what="the proxy does not pass the X-API-Key header to the auth service",
        remedy="pass both headers to the check: Authorization and X-API-Key",
        shows=ignored.at("proxy"),
        reddens=(r"x-api-key",),
        fixes=ASK,
    ),
    Cause(
        id=CauseId("last-key-counts"),
        hop="proxy",
        severity="contract",
        symptom="an invalid key is accepted if a good one follows it",
        what="if a header has several keys, the proxy checks only the last one",
        remedy="pass the header to the check unchanged",
        shows=_accepted(lambda key: Identity("a bad key and then a good one", key=Secret(f"bad, Bearer {key}"))),
        reddens=(rf"{ODD_KEYS}::test_(like_a_key|several_keys)\[.*-bearer",),
    ),
    Cause(
        id=CauseId("key-in-query-accepted"),
        hop="proxy",
        severity="contract",
        symptom="a key in the URL works, and ends up in every log",
        what="the proxy accepts keys in a query parameter",
        remedy="accept keys in headers only",
        shows=may_be_logged & _accepted(lambda _: None, lambda key: replace(READ, path=f"{READ.path}&api_key={key}")),
        reddens=(r"key_in_query",),
    ),
)
