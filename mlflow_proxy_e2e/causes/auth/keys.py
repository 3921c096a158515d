"""Which keys the auth service accepts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import requests

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import ENDPOINTS, KEY_LIFETIME, ODD_KEYS, THROTTLED
from mlflow_proxy_e2e.causes.proxy.access import OF_ANY_KEY
from mlflow_proxy_e2e.causes.proxy.refusals import refused_with
from mlflow_proxy_e2e.causes.snippets import NOT_CACHED
from mlflow_proxy_e2e.facts.admission import accepted_by_auth, clock_behind, decided_by, is_open_to_everybody, wrongly_let_in
from mlflow_proxy_e2e.facts.facts import READ, Facts
from mlflow_proxy_e2e.facts.prober import NotAskedError
from mlflow_proxy_e2e.facts.question import Question, Reply
from mlflow_proxy_e2e.facts.sign import NO, Reading, Shows, Sign, holds, on_each_route
from mlflow_proxy_e2e.keys import IssuedKey, Keys
from mlflow_proxy_e2e.redaction import INSTEAD
from mlflow_proxy_e2e.run import PREFIX
from mlflow_proxy_e2e.target import Identity, Route, Secret

PLAIN_KEY = Identity("a key of nobody's", key=Secret("no-such-key"))
# Values that cannot be keys, but that anybody can send. Most servers accept a header of 8 kB.
ODD = tuple(
    Identity(f"a key {what}", key=Secret(key))
    for what, key in {"with an accent": "cl\xe9", "with a null byte": "key\0", "with %00": "key%00", "of 8 kB": "x" * 8000}.items()
)

ODD_VALUES = ("abc", "Bearer", "Bearer a b", "Basic !")  # of Authorization, without a key in a form that anything expects


def _again_after_revocation(facts: Facts) -> Reading:
    """Use a key, revoke it and use it again: it still works if a hop has cached the auth service's decision."""
    if not facts.target.keys or not facts.open_routes or is_open_to_everybody(facts):
        return NO
    keys, route = Keys(facts.target.keys), facts.open_routes[0]
    issued: IssuedKey | None = None

    def issue() -> bool:
        nonlocal issued
        try:
            issued = keys.issue(f"{PREFIX}-diagnosis", ["read"])
        except requests.RequestException:
            return False
        facts.secrets.append(issued.secret)
        return True

    def revoke() -> bool:
        try:
            keys.revoke(issued.key_id if issued else "")
        except requests.RequestException:
            return False
        return True

    def use() -> Reply:
        return facts.ask(route, READ.marked(facts.token()), who)

    if not facts.observe("a key was issued", issue):
        return NO
    who = Identity("a key of its own", frozenset({"read"}), key=issued.secret if issued else Secret(INSTEAD))
    before = use()
    if not facts.observe("the key was revoked", revoke) or not before.works or not use().works:
        return NO
    permitted = facts.target.contract.revocation_seconds
    if not facts.has_seconds(permitted + timeouts.NO_TIME_OUT):
        raise NotAskedError("whether a revoked key is let in for longer than permitted")
    facts.observe("waited for the revocation to count", lambda: time.sleep(permitted))
    after = use()
    return Reading(Shows.YES, (before, "then it was revoked", after), ("auth",)) if after.works else NO


def _accepted(change: Callable[[str], str], name: str) -> Sign:
    """Return the sign that a slightly altered good key is accepted."""

    def wrong(facts: Facts, route: Route) -> Reply | None:
        if facts.control.key is None or is_open_to_everybody(facts):
            return None
        reply = facts.ask(route, READ, Identity(name, key=Secret(change(facts.control.key.reveal()))))
        return reply if reply.works else None

    return decided_by(on_each_route(wrong, "auth"))


def _odd_key(wrong: Callable[[Reply], bool]) -> Sign:
    """Return the sign that the reply to an odd key is wrong, where that to any other bad key is not."""

    def first(facts: Facts, route: Route) -> Reply | None:
        carriers = [carrier for carrier in facts.target.carriers if carrier != "basic"]
        if wrong(facts.ask(route, READ, PLAIN_KEY)):
            return None
        odd = [facts.question(route, READ, who, carrier) for carrier in carriers for who in ODD]
        odd += [Question(route, replace(READ, headers=(("Authorization", value),))) for value in ODD_VALUES]
        return next((reply for reply in facts.replies(odd) if wrong(reply)), None)

    return decided_by(on_each_route(first, "auth"))


def _is_error(reply: Reply) -> bool:
    return (reply.status or 0) >= 500


expired_let_in = wrongly_let_in(lambda who: who.name == "expired")


CAUSES = (
    Cause(
        id=CauseId("revocation-ignored"),
        hop="auth",
        severity="open",
        symptom="a revoked key still works",
        what="the auth service ignores revocations",
        remedy="check for revocation on every call",
        shows=wrongly_let_in(lambda who: who.name == "revoked"),
        explains=(CauseId("revocation-lag"),),
        reddens=(
            r"-revoked",
            ENDPOINTS,
            rf"{KEY_LIFETIME}::test_(revocation|keys_of_one_user)",
        ),
    ),
    Cause(
        id=CauseId("revocation-lag"),
        hop="auth",
        severity="open",
        symptom="a key that was in use keeps working for minutes after it was revoked",
        what="the auth service's decisions are cached for minutes",
        remedy="ask the auth service about every call, or cache decisions for seconds only",
        reports=("oidc#242",),
        shows=Sign(_again_after_revocation, timeouts.REVOCATION),
        reddens=(rf"{KEY_LIFETIME}::test_(revocation|expiry|keys_of_one_user)",),
        fixes=NOT_CACHED,
    ),
    Cause(
        id=CauseId("expiry-ignored"),
        hop="auth",
        severity="open",
        symptom="an expired key still works",
        what="the auth service ignores expiry dates",
        remedy="check the expiry date on every call",
        shows=expired_let_in & ~clock_behind,
        reddens=(
            r"-expired",
            ENDPOINTS,
            rf"{KEY_LIFETIME}::test_expiry",
        ),
    ),
    Cause(
        id=CauseId("key-prefix-match"),
        hop="auth",
        severity="open",
        symptom="a key that is truncated or extended still works",
        what="only the first characters of keys are compared, by the auth service or by a cache of its decisions",
        remedy="compare whole keys, by their hashes",
        shows=_accepted(lambda key: key[:-4], "a key cut off") | _accepted(lambda key: f"{key}x", "a key made longer"),
        # Of keys that begin alike, the first one decides for all.
        explains=tuple(
            map(
                CauseId,
                (
                    *("revocation-ignored", "revocation-lag", "expiry-ignored", "refused-key-let-in", "decided-without-asking"),
                    *("service-not-checked", "rate-limit-not-enforced", "scope-not-checked", "decision-cached"),
                    *("method-taken-for-scope", "write-behind-read-path", "method-ignored", "unlisted-endpoint-open"),
                    *("get-taken-for-read", "claimed-call-checked"),
                ),
            )
        ),
        reddens=(rf"{ODD_KEYS}::test_like_a_key",),
    ),
    Cause(
        id=CauseId("key-case-ignored"),
        hop="auth",
        severity="open",
        symptom="a key in upper or lower case still works",
        what="the auth service ignores case when it compares keys",
        remedy="compare keys exactly",
        shows=_accepted(str.swapcase, "a key in other letters"),
        reddens=(rf"{ODD_KEYS}::test_like_a_key",),
    ),
    Cause(
        id=CauseId("refused-key-let-in"),
        hop="auth",
        severity="open",
        symptom="a key that was never issued works",
        what="the auth service accepts keys that it does not know",
        remedy="accept only keys that were issued, and compare whole keys, by their hashes",
        shows=accepted_by_auth,
        explains=OF_ANY_KEY,
        reddens=(
            r"::test_(?!error|coded)\w+\[\w+-(expired|revoked|unknown)",
            rf"{ODD_KEYS}::test_like_a_key",
            rf"{KEY_LIFETIME}::test_(revocation|expiry|keys_of_one_user)",
            rf"{ENDPOINTS}::test_who_may_call",
            r"test_identities_take_turns",
            r"test_no_log_has_a_key\[.*-(authorization|x-api-key)",
        ),
    ),
    Cause(
        id=CauseId("odd-key-crashes"),
        hop="auth",
        severity="contract",
        symptom="5xx for a malformed Authorization header, or a key that is odd or very long, which clients retry for minutes",
        what="the key check crashes on unexpected characters or lengths instead of refusing the key",
        remedy="refuse every unknown key, whatever it contains",
        shows=_odd_key(_is_error),
        reddens=(rf"{ODD_KEYS}::test_odd_key",),
    ),
    Cause(
        id=CauseId("odd-key-let-in"),
        hop="auth",
        severity="open",
        symptom="a key with odd characters, or a very long one, works though it was never issued",
        what="the key check fails on unexpected characters or lengths, and its failure counts as a yes",
        remedy="refuse every call that cannot be decided",
        shows=_odd_key(lambda reply: reply.works),
        reddens=(rf"{ODD_KEYS}::test_odd_key",),
    ),
    Cause(
        id=CauseId("rate-limit-not-enforced"),
        hop="auth",
        severity="contract",
        symptom="a key over its rate limit still works",
        what="the auth service does not count calls, or the proxy lets in a call that the auth service answers 429",
        remedy="count calls, answer 429 with Retry-After, and have the proxy refuse whatever the auth service does not permit",
        shows=wrongly_let_in(lambda who: who.refused == "throttled"),
        reddens=(*THROTTLED,),
    ),
    Cause(
        id=CauseId("ratelimit-as-401"),
        hop="auth",
        severity="contract",
        symptom="401 under load with a good key",
        what="the auth service reports an exhausted rate limit as a bad key",
        remedy="answer 429 with Retry-After",
        shows=refused_with("limit", "auth") & holds(lambda facts: True if facts.has_logs else None),
        reddens=(*THROTTLED,),
    ),
)
