"""Edges that lose keys, or refuse them without asking the proxy."""

from __future__ import annotations

from functools import partial

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import EXTERNAL, external
from mlflow_proxy_e2e.causes.proxy.carriers import ignored
from mlflow_proxy_e2e.causes.snippets import UNCACHED, snippets
from mlflow_proxy_e2e.facts.facts import EDGE_ROUTE, READ, Facts
from mlflow_proxy_e2e.facts.question import Question, Reply
from mlflow_proxy_e2e.facts.refused import accepted_key, is_refused_like_nobody, is_unauthenticated, refusal
from mlflow_proxy_e2e.facts.sign import NO, Reading, Shows, Sign
from mlflow_proxy_e2e.facts.stopped import Stopped, stops
from mlflow_proxy_e2e.target import Identity, Route

OF_BEARERS = rf"^(?!.*x-api-key).*{EXTERNAL}"


def _is_bearer_refused(facts: Facts, seen: Stopped) -> bool:
    """Tell whether a good key gets 401 as a bearer token, and is accepted with another carrier."""
    refused = not seen.by_every_carrier and seen.status == facts.target.contract.unauthenticated
    return refused and seen.reply.question.carrier == "bearer"


def _has_words_of_its_own(facts: Facts, seen: Stopped) -> bool:
    """Tell whether a bearer token's refusal is neither that of a missing key nor that of an unknown key with the other carrier."""
    accepted = next(reply for reply in seen.replies if reply.works)
    unknown = [facts.reply(Question(seen.route, READ, facts.stranger, accepted.question.carrier))] if facts.stranger else []
    return refusal(seen.reply) not in map(refusal, (seen.nobody, *unknown))


def _is_lost(facts: Facts, seen: Stopped) -> bool | None:
    """Tell whether keys get lost with every carrier. UNKNOWN if the edge may have a different list of keys instead."""
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
    """Tell whether the edge has its own list of keys: it accepts another good key, or refuses this one without asking the proxy."""
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
    """Look for a good key, besides the one that asks everything, that one route refuses and the next accepts."""
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
        fixes=snippets(
            nginx="""
                location /api/mlflow/ {
                    proxy_set_header Authorization $http_authorization;
                }
            """,
            aws=UNCACHED["AWS"],
        ),
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
        fixes=snippets(
            nginx="""
                location /api/mlflow/ {
                    proxy_set_header X-API-Key $http_x_api_key;
                }
            """,
            aws=UNCACHED["AWS"],
        ),
    ),
    Cause(
        id=CauseId("token-filter"),
        hop="edge",
        severity="down",
        symptom="401 for good keys sent as a bearer token, worded differently from the 401 for bad keys",
        what="a filter for another kind of token, such as a service mesh's JWT check, refuses API keys sent as bearer tokens",
        remedy="exempt MLflow's paths from the filter, since the proxy checks their keys, or send keys as X-API-Key",
        shows=bearer_refused & words_of_its_own,
        reddens=(OF_BEARERS,),
        fixes=snippets(
            envoy="""
                routes:
                  - match: { prefix: /api/mlflow/ }
                    route: { cluster: proxy, prefix_rewrite: /mlflow/, timeout: 0s }
                    typed_per_filter_config:
                      envoy.filters.http.jwt_authn:
                        "@type": type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.PerRouteConfig
                        disabled: true
            """
        ),
    ),
    Cause(
        id=CauseId("keys-differ-by-route"),
        hop="edge",
        severity="down",
        symptom="a good key is refused through one URL and accepted through another",
        what="the routes do not accept the same keys: one of them has its own list of keys, or its own auth service",
        remedy="have the same auth service check keys on every route",
        shows=stops(_is_unknown_at_edge) | Sign(_other_key_refused),
        reddens=(EXTERNAL,),
    ),
)
