"""A good key that is refused with 401 or 403: by which hop, and in which words."""

from __future__ import annotations

from mlflow_proxy_e2e.facts.facts import READ, Facts, together
from mlflow_proxy_e2e.facts.outage import decision, health, opinion
from mlflow_proxy_e2e.facts.question import Reply
from mlflow_proxy_e2e.facts.sign import UNTOLD, Sign
from mlflow_proxy_e2e.facts.stopped import Stopped, stops
from mlflow_proxy_e2e.target import Identity

NOBODY = Identity("nobody", refused="unauthenticated")


def is_unauthenticated(facts: Facts, seen: Stopped) -> bool:
    """Tell whether a good key is answered like a missing one, with every carrier."""
    return seen.by_every_carrier and seen.status in (401, facts.target.contract.unauthenticated)


def is_forbidden(facts: Facts, seen: Stopped) -> bool:
    """Tell whether a good key is not permitted to read, with every carrier."""
    forbidden = seen.by_every_carrier and seen.status in (403, facts.target.contract.forbidden)
    return forbidden and not is_unauthenticated(facts, seen)


def _in_contract_words(facts: Facts, reply: Reply) -> bool:
    denial = facts.target.contract.denial(NOBODY)
    asks_for_password = (reply.header("WWW-Authenticate") or "").lower().startswith(
        "basic"
    ) and "basic" not in facts.target.carriers
    lacks = (denial.error_code and not reply.error_code) or (denial.header and not reply.header(denial.header))
    return not (asks_for_password or lacks)


def refusal(reply: Reply) -> object:
    """Return the parts of a refusal that tell hops apart."""
    return reply.status, reply.header("Content-Type"), reply.header("WWW-Authenticate"), reply.error_code


def _goes_round(facts: Facts, seen: Stopped) -> bool:
    return len(facts.said(seen.reply, "proxy", "path")) > 1


def is_seen_from_outside(facts: Facts, seen: Stopped) -> bool:
    """Tell whether a good key is answered like a missing one, behind the edge, where the auth service cannot be asked why."""
    return is_unauthenticated(facts, seen) and not seen.at_edge and not _goes_round(facts, seen) and health(facts) is None


def is_refused_like_nobody(facts: Facts, seen: Stopped) -> bool:
    """Tell whether a good key is refused in exactly the contract's words that a caller without a key gets."""
    if not is_seen_from_outside(facts, seen) or refusal(seen.reply) != refusal(seen.nobody):
        return False
    return _in_contract_words(facts, seen.nobody)


def accepted_key(facts: Facts) -> Reply | None:
    """Return the reply to another good key that is accepted where the first one is not, or None."""
    return facts.once(_accepted_key)


def _accepted_key(facts: Facts) -> Reply | None:
    others = (other for other in facts.target.who_may("read") if other != facts.control)
    replies = (facts.ask(route, READ, who) for who in others for route in facts.broken[:1])
    return next((reply for reply in replies if reply.works), None)


def _no_other_key_is_accepted(facts: Facts, _: Stopped) -> bool:
    return accepted_key(facts) is None


def refuses_by_auth(test: str) -> Sign:
    """Return the sign that the auth service of the lab's own stack is the reason why a good key is refused.

    ``test``: ``outage`` if it cannot be asked, ``opinion`` if it does not know the key.
    """
    return stops(lambda facts, seen: _why(facts, seen) == test, lambda _: ("auth",))


def _why(facts: Facts, seen: Stopped) -> str | None:
    if not is_unauthenticated(facts, seen) or seen.at_edge or _goes_round(facts, seen) or (asked := health(facts)) is None:
        return None
    decided, thinks = decision(facts), opinion(facts)
    noted = facts.lines_at("auth", seen.reply.request_id)
    if asked.status != 200 or not noted or (decided and decided.status not in (200, 401)):
        return "outage"
    return "opinion" if thinks and thinks.status == 401 else "unknown"


def _is_host_refused(facts: Facts, seen: Stopped) -> bool:
    return is_forbidden(facts, seen) and b"host header" in seen.reply.body.lower()


def _is_forbidden_in_contract_words(facts: Facts, seen: Stopped) -> bool:
    """Tell whether it is forbidden in the contract's words by a hop that also requires a key.

    Other hops forbid for reasons of their own.
    """
    if not is_forbidden(facts, seen) or _is_host_refused(facts, seen) or seen.at_edge:
        return False
    thinks = opinion(facts)
    asks_for_keys = seen.nobody.status == facts.target.contract.unauthenticated != seen.status
    return (thinks is None or thinks.status == 200) and asks_for_keys and bool(seen.reply.error_code)


def _with_auth(seen: Stopped) -> tuple[str, ...]:
    return seen.hops if seen.at_edge else together("auth", *seen.hops)


def _other_words(facts: Facts, seen: Stopped) -> bool:
    return is_seen_from_outside(facts, seen) and refusal(seen.reply) != refusal(seen.nobody)


refused_like_nobody = stops(is_refused_like_nobody, _with_auth) & stops(_no_other_key_is_accepted, _with_auth) & UNTOLD
host_refused = stops(_is_host_refused)
forbidden_in_contract_words = stops(_is_forbidden_in_contract_words, _with_auth)

UNNAMED = (
    (
        "the edge refuses a key that is accepted behind it, with every carrier",
        stops(lambda facts, seen: is_unauthenticated(facts, seen) and seen.at_edge),
    ),
    ("the auth service refuses a key that it has issued", refuses_by_auth("unknown")),
    (
        "a good key is refused in different words than a caller without a key",
        stops(lambda facts, seen: _other_words(facts, seen) and facts.direct is not None),
    ),
    (
        "a good key is refused in different words than a caller without a key",
        stops(_other_words, lambda seen: together(*seen.hops, "proxy", "mlflow")),
    ),
    ("everybody is refused, and not in the contract's words", stops(is_seen_from_outside, _with_auth)),
    (
        "the auth service refuses a key that it has issued",
        stops(
            lambda facts, seen: is_forbidden(facts, seen) and (thinks := opinion(facts)) is not None and thinks.status != 200,
            lambda _: ("auth",),
        ),
    ),
    ("a good key is not permitted to read, by a hop that does not say why", stops(is_forbidden, _with_auth)),
)
