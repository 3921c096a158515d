"""Errors that a hop makes since the one behind it does not answer: 5xx or silence, and who is away."""

from __future__ import annotations

from mlflow_proxy_e2e.facts.facts import READ, Facts
from mlflow_proxy_e2e.facts.intermittent import ABOUT_KEYS
from mlflow_proxy_e2e.facts.question import Reply
from mlflow_proxy_e2e.facts.sign import UNTOLD, holds
from mlflow_proxy_e2e.facts.stopped import NO_FLAGS, Stopped, at_edge, fails_too, flags, own_words, slow, stops
from mlflow_proxy_e2e.wire import JSON, Request

with_logs = holds(lambda facts: facts.has_logs)
only_without_logs = holds(lambda facts: False if facts.has_logs else None)  # what an outage may be where no log tells


def health(facts: Facts) -> Reply | None:
    """Ask the auth service of a stack that we own for its health."""
    return facts.ask_hop("auth")


def decision(facts: Facts) -> Reply | None:
    """Ask the auth service of a stack that we own about a read with the good key, as the proxy does."""
    if not facts.target.keys:
        return None
    return facts.ask_hop("auth", Request("GET", f"/authorize/{facts.target.keys.service_id}{READ.path}"), facts.control)


def opinion(facts: Facts) -> Reply | None:
    """Ask the auth service of a stack that we own about the good key by itself."""
    if not facts.target.keys:
        return None
    body = f'{{"service_id": "{facts.target.keys.service_id}", "client_ip": "127.0.0.1"}}'.encode()
    return facts.ask_hop("auth", Request("POST", "/api/v1/keys/validate", JSON, body), facts.control)


def _is_gateway_error(facts: Facts, seen: Stopped) -> bool:
    return seen.by_every_carrier and seen.status >= 500 and seen.status != 508 and seen.status not in facts.refusals


def _is_about_keys(facts: Facts, seen: Stopped) -> bool:
    """Tell whether keys could not be checked: everybody gets the error, before MLflow has been asked."""
    how = flags(facts, seen.reply, "proxy") or ""
    return "UAEX" in how if how not in ("", NO_FLAGS) else seen.nobody.status == seen.status


def _stranger_fails_too(facts: Facts, seen: Stopped) -> bool:
    return not flags(facts, seen.reply, "proxy") and fails_too(facts, seen) is not None


def _says_that_keys_are_not_checked(facts: Facts, seen: Stopped) -> bool:
    """Tell whether it is said in words: whoever fails so on purpose, since keys cannot be checked, says so."""
    return seen.status == facts.target.contract.auth_outage and ABOUT_KEYS.search(seen.reply.body) is not None


gateway_error = stops(_is_gateway_error)
edge_fails = gateway_error & at_edge

# Behind the edge, it is keys that could not be checked, or MLflow that could not be asked.
behind_edge_fails = gateway_error & ~at_edge
about_keys = behind_edge_fails & stops(_is_about_keys)
made_up_key_fails_too = behind_edge_fails & ~stops(_is_about_keys) & stops(_stranger_fails_too)
says_keys_not_checked = stops(_says_that_keys_are_not_checked)
mlflow_away = behind_edge_fails & ~stops(_is_about_keys) & ~stops(_stranger_fails_too)
fails_at_once = mlflow_away & ~own_words & ~slow & stops(lambda facts, seen: facts.has_logs or seen.status in (502, 503))

# No answer at all, although the way to whoever refuses is open: what is silent stands behind.
let_in_unanswered = (
    stops(lambda _, seen: seen.by_every_carrier and seen.reply.failure == "unanswered" and seen.nobody.status is not None)
    & ~at_edge
    & ~stops(lambda facts, seen: "UT" in (flags(facts, seen.reply, "proxy") or ""))
)
made_up_key_unanswered = let_in_unanswered & stops(lambda facts, seen: fails_too(facts, seen) is not None)
unanswered_by_mlflow = let_in_unanswered & ~stops(lambda facts, seen: fails_too(facts, seen) is not None)
nobody_answered = stops(lambda _, seen: seen.by_every_carrier and seen.reply.failure == "unanswered" and seen.nobody.status is None)

# An error after a time-out, or silence, that MLflow did not end: nothing but a log tells what was waited for.
waited_in_vain = (mlflow_away & slow & only_without_logs) | (unanswered_by_mlflow & UNTOLD)
