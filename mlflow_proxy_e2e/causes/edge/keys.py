"""Keys that the edge loses, or turns down by itself."""

from __future__ import annotations

from functools import partial

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import EXTERNAL, external
from mlflow_proxy_e2e.causes.proxy.carriers import ignored
from mlflow_proxy_e2e.facts.facts import EDGE_ROUTE, READ, Facts
from mlflow_proxy_e2e.facts.question import Question, Reply
from mlflow_proxy_e2e.facts.refused import accepted_key, is_refused_like_nobody, is_unauthenticated, refusal
from mlflow_proxy_e2e.facts.sign import NO, Reading, Shows, Sign
from mlflow_proxy_e2e.facts.stopped import Stopped, stops
from mlflow_proxy_e2e.target import Identity, Route

OF_BEARERS = rf"^(?!.*x-api-key).*{EXTERNAL}"


def _is_bearer_refused(facts: Facts, seen: Stopped) -> bool:
    """Tell whether a good key is taken for none as a bearer token, and accepted when it is sent in another way."""
    refused = not seen.by_every_carrier and seen.status == facts.target.contract.unauthenticated
    return refused and seen.reply.question.carrier == "bearer"


def _has_words_of_its_own(facts: Facts, seen: Stopped) -> bool:
    """Tell whether a bearer token is refused neither as a missing key is nor as an unknown one that is sent in the other way."""
    accepted = next(reply for reply in seen.replies if reply.works)
    unknown = [facts.reply(Question(seen.route, READ, facts.stranger, accepted.question.carrier))] if facts.stranger else []
    return refusal(seen.reply) not in map(refusal, (seen.nobody, *unknown))


def _is_lost(facts: Facts, seen: Stopped) -> bool | None:
    """Tell whether keys are lost on their way however they are sent. UNKNOWN where the edge may know other keys instead."""
    if not is_unauthenticated(facts, seen):
        return False
    if not seen.at_edge:
        return None if "edge" in seen.hops and is_refused_like_nobody(facts, seen) else False
    if accepted_key(facts):
        return False
    if facts.has_logs:
        return bool(facts.said(seen.reply, "proxy", "path"))
    behind = next(route for route in facts.target.routes if route.name != EDGE_ROUTE)
    return None if refusal(seen.reply) == refusal(facts.reply(Question(behind, READ))) else False


def _is_unknown_at_edge(facts: Facts, seen: Stopped) -> bool | None:
    """Tell whether the edge knows other keys: it accepts another good one, or it refuses this one without asking the proxy."""
    if not is_unauthenticated(facts, seen) or not seen.at_edge:
        return False
    if accepted_key(facts):
        return True
    lost = _is_lost(facts, seen)
    return not lost if facts.has_logs else lost


def _refused_to(facts: Facts, who: Identity, route: Route) -> Reply | None:
    contract, reply = facts.target.contract, facts.ask(route, READ, who)
    return reply if reply.status in (401, 403, contract.unauthenticated, contract.forbidden) else None


def _other_key_refused(facts: Facts) -> Reading:
    """Another good key than the one by which everything is asked: refused on one route, and accepted on the next."""
    for who in facts.target.who_may("read"):
        wrong = facts.wrong(partial(_refused_to, facts, who), on_each=True)
        accepted = (facts.ask(route, READ, who) for route in facts.open_routes if wrong)
        if works := next((reply for reply in accepted if reply.works), None):
            routes = [reply.question.route for reply in wrong]
            return Reading(Shows.YES, (wrong[0], works), facts.behind(routes, "auth"), frozenset(map(str, routes)))
    return NO


bearer_refused = stops(_is_bearer_refused)
words_of_its_own = stops(_has_words_of_its_own)


CAUSES = (
    Cause(
        id=CauseId("auth-stripped"),
        hop="edge",
        severity="down",
        symptom="401 for good keys sent as a bearer token",
        what="the edge drops the Authorization header",
        remedy="forward the Authorization header unchanged",
        shows=(bearer_refused & ~words_of_its_own) | stops(_is_lost),
        reddens=(OF_BEARERS,),
    ),
    Cause(
        id=CauseId("edge-carrier-ignored"),
        hop="edge",
        severity="down",
        symptom="401 for good keys sent as X-API-Key through the external URL",
        what="the edge drops the X-API-Key header",
        remedy="forward the X-API-Key header unchanged",
        shows=ignored.at("edge"),
        reddens=(external(r"x-api-key"),),
    ),
    Cause(
        id=CauseId("token-filter"),
        hop="edge",
        severity="down",
        symptom="401 for good keys sent as a bearer token, in other words than other bad keys get",
        what="a filter for tokens of another kind, such as the JWT check of a mesh, refuses API keys sent as bearer tokens",
        remedy="exempt MLflow's paths from the filter, since the proxy checks their keys, or send keys as X-API-Key",
        shows=bearer_refused & words_of_its_own,
        reddens=(OF_BEARERS,),
    ),
    Cause(
        id=CauseId("keys-differ-by-route"),
        hop="edge",
        severity="down",
        symptom="a good key is refused through one URL and accepted through another",
        what="the routes do not know the same keys: one of them has a list, or an auth service, of its own",
        remedy="have the same auth service decide about keys on every route",
        shows=stops(_is_unknown_at_edge) | Sign(_other_key_refused),
        reddens=(EXTERNAL,),
    ),
)
