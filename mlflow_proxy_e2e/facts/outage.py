"""Errors that a hop returns because the next one does not answer, 5xx or silence: which one is unavailable."""

from __future__ import annotations

from mlflow_proxy_e2e.facts.facts import READ, Facts
from mlflow_proxy_e2e.facts.intermittent import ABOUT_KEYS
from mlflow_proxy_e2e.facts.question import Reply
from mlflow_proxy_e2e.facts.sign import UNTOLD, holds
from mlflow_proxy_e2e.facts.stopped import NO_FLAGS, Stopped, at_edge, fails_too, flags, own_words, slow, stops
from mlflow_proxy_e2e.wire import JSON, Request

with_logs = holds(lambda facts: facts.has_logs)
only_without_logs = holds(lambda facts: False if facts.has_logs else None)  # for what may be an outage, but only a log would tell


def health(facts: Facts) -> Reply | None:
    """Ask the auth service of the lab's own stack for its health."""
    return facts.ask_hop("auth")


def decision(facts: Facts) -> Reply | None:
    """Ask the auth service of the lab's own stack about a read with the good key, as the proxy does."""
    if not facts.target.keys:
        return None
    return facts.ask_hop("auth", Request("GET", f"/authorize/{facts.target.keys.service_id}{READ.path}"), facts.control)


def opinion(facts: Facts) -> Reply | None:
    """Ask the auth service of the lab's own stack about the good key alone."""
    if not facts.target.keys:
        return None
    body = f'{{"service_id": "{facts.target.keys.service_id}", "client_ip": "127.0.0.1"}}'.encode()
    return facts.ask_hop("auth", Request("POST", "/api/v1/keys/validate", JSON, body), facts.control)


def _is_gateway_error(facts: Facts, seen: Stopped) -> bool:
    return seen.by_every_carrier and seen.status >= 500 and seen.status != 508 and seen.status not in facts.refusals


def _is_about_keys(facts: Facts, seen: Stopped) -> bool:
    """Tell whether keys could not be checked: every caller gets the error, and MLflow is not asked."""
    how = flags(facts, seen.reply, "proxy") or ""
    return "UAEX" in how if how not in ("", NO_FLAGS) else seen.nobody.status == seen.status


def _stranger_fails_too(facts: Facts, seen: Stopped) -> bool:
    return not flags(facts, seen.reply, "proxy") and fails_too(facts, seen) is not None


def _says_that_keys_are_not_checked(facts: Facts, seen: Stopped) -> bool:
    """Tell whether the error's wording says that keys cannot be checked."""
    return seen.status == facts.target.contract.auth_outage and ABOUT_KEYS.search(seen.reply.body) is not None


gateway_error = stops(_is_gateway_error)
edge_fails = gateway_error & at_edge

# Behind the edge, either keys could not be checked, or MLflow could not be reached.
behind_edge_fails = gateway_error & ~at_edge
about_keys = behind_edge_fails & stops(_is_about_keys)
made_up_key_fails_too = behind_edge_fails & ~stops(_is_about_keys) & stops(_stranger_fails_too)
says_keys_not_checked = stops(_says_that_keys_are_not_checked)
mlflow_away = behind_edge_fails & ~stops(_is_about_keys) & ~stops(_stranger_fails_too)
fails_at_once = mlflow_away & ~own_words & ~slow & stops(lambda facts, seen: facts.has_logs or seen.status in (502, 503))

# No answer at all, although refusals arrive: the silent hop is behind the one that refuses.
let_in_unanswered = (
    stops(lambda _, seen: seen.by_every_carrier and seen.reply.failure == "unanswered" and seen.nobody.status is not None)
    & ~at_edge
    & ~stops(lambda facts, seen: "UT" in (flags(facts, seen.reply, "proxy") or ""))
)
made_up_key_unanswered = let_in_unanswered & stops(lambda facts, seen: fails_too(facts, seen) is not None)
unanswered_by_mlflow = let_in_unanswered & ~stops(lambda facts, seen: fails_too(facts, seen) is not None)
nobody_answered = stops(lambda _, seen: seen.by_every_carrier and seen.reply.failure == "unanswered" and seen.nobody.status is None)

# A timeout or silence that MLflow did not cause: only a log shows which hop was waited for.
waited_in_vain = (mlflow_away & slow & only_without_logs) | (unanswered_by_mlflow & UNTOLD)
