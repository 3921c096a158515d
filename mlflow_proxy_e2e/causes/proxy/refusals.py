"""The format of refusals and errors: statuses, bodies and headers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Literal

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import COMPARED, ERRORS, REFUSALS, THROTTLED, UNAUTHENTICATED
from mlflow_proxy_e2e.causes.snippets import snippets
from mlflow_proxy_e2e.facts.comparisons import unless
from mlflow_proxy_e2e.facts.facts import READ, Facts
from mlflow_proxy_e2e.facts.intermittent import differs_when_repeated, where_intermittent
from mlflow_proxy_e2e.facts.question import Reply
from mlflow_proxy_e2e.facts.sandbox import NO_SUCH_RUN, UNKNOWN_RUN
from mlflow_proxy_e2e.facts.sign import NO, Reading, Shows, Sign, holds, on_routes
from mlflow_proxy_e2e.target import Identity
from mlflow_proxy_e2e.wire import Request

MLFLOWS_SHAPE = "answer in MLflow's format, with error_code and message"


NO_SUCH = "RESOURCE_DOES_NOT_EXIST"
ARTIFACT = Request("GET", f"/api/2.0/mlflow-artifacts/artifacts/{NO_SUCH_RUN}")
Kind = Literal["login", "limit", "status", "detail", "html", "challenge", "retry"]


def _wrong_in_refusals(facts: Facts) -> Mapping[Kind, list[Reply]]:
    """Return refusals on the first route that break the contract, grouped by what is wrong with them."""
    wrong: dict[Kind, list[Reply]] = {}
    for route in facts.open_routes[:1]:
        denied = [who for who in facts.target.identities if who.refused]
        carriers = [reply.question.carrier for reply in facts.good(route) if reply.works]
        for who in denied:
            for reply in facts.replies(facts.question(route, READ, who, carrier) for carrier in carriers):
                refusal = _refusal_beside(facts, reply) if reply.works else reply
                for kind in _wrong_in_refusal(facts, who, refusal):
                    wrong.setdefault(kind, []).append(refusal)
    return wrong


def _refusal_beside(facts: Facts, let_in: Reply) -> Reply:
    """Return how an identity that may read wrongly is refused elsewhere, or else the read."""
    question = let_in.question
    beside = facts.ask(question.route, ARTIFACT, question.who, question.carrier)
    status = beside.status or 0
    is_refusal = status in facts.refusals or 300 <= status < 400  # to a login page
    return beside if is_refusal else let_in


def _wrong_in_refusal(facts: Facts, who: Identity, reply: Reply) -> Iterator[Kind]:
    denial = facts.target.contract.denial(who)
    if reply.works:
        return
    if reply.status != denial.status:
        if reply.status and 300 <= reply.status < 400:
            yield "login"
        else:
            yield "limit" if who.refused == "throttled" and reply.status == 401 else "status"
        return  # not a refusal, so its format does not matter
    if denial.error_code and reply.error_code is None:
        yield "html" if b"<html" in reply.body.lower() else "detail"
    if denial.header and not reply.header(denial.header):
        yield "challenge" if denial.header == "WWW-Authenticate" else "retry"


def refused_with(kind: Kind, hop: str = "proxy") -> Sign:
    """Return the sign that refusals are wrong in this way."""

    def read(facts: Facts) -> Reading:
        if not (wrong := facts.once(_wrong_in_refusals).get(kind)):
            return NO
        reply = wrong[0]
        others = [facts.reply(replace(reply.question, route=route)) for route in facts.open_routes[1:]]
        affected = [reply.question.route, *(other.question.route for other in others if _is_same(other, reply))]
        return Reading(Shows.YES, (reply, *facts.trace(reply)), facts.behind(affected, hop), frozenset(map(str, affected)))

    return Sign(read)


def _is_same(one: Reply, other: Reply) -> bool:
    return one.status == other.status and one.header("Content-Type") == other.header("Content-Type")


def _mlflows_errors_are_whole(facts: Facts) -> bool:
    """Tell whether MLflow's own errors have its format: otherwise, the format of refusals is not the gate's fault."""
    return any(facts.ask(route, UNKNOWN_RUN).error_code for route in facts.open_routes[:1])


def _several_statuses(facts: Facts) -> bool:
    """Tell whether refusals with several statuses have the wrong format, and not just those with one."""
    wrong = facts.once(_wrong_in_refusals)
    return len({reply.status for kind in ("detail", "html") for reply in wrong.get(kind, ())}) > 1


def _differs(facts: Facts) -> bool:
    return any(differs_when_repeated(facts, reply) for reply in facts.once(_wrong_in_refusals).get("status", ())[:1])


in_own_shape = holds(_mlflows_errors_are_whole)
all_in_other_shape = in_own_shape & holds(_several_statuses)
one_in_other_shape = in_own_shape & ~holds(_several_statuses)


def _where_refusals_vary(facts: Facts) -> Reading:
    reply = facts.once(_wrong_in_refusals)["status"][0]
    return Reading(Shows.YES, (reply,), where_intermittent(facts, reply))


UNNAMED = (
    ("the same call fails now and then", refused_with("status") & holds(_differs) & Sign(_where_refusals_vary)),
    ("a refusal has a status that the contract does not allow", refused_with("status")),
)


OWN_ANSWERS = snippets(
    envoy="""
        local_reply_config: # of the HttpConnectionManager, for its own answers: MLflow's pass unchanged
          mappers:
            - filter: { status_code_filter: { comparison: { op: EQ, value: { default_value: 401, runtime_key: none } } } }
              body_format_override: { json_format: { error_code: UNAUTHENTICATED, message: A valid API key is required. } }
            - filter: { status_code_filter: { comparison: { op: EQ, value: { default_value: 403, runtime_key: none } } } }
              body_format_override: { json_format: { error_code: PERMISSION_DENIED, message: The key does not permit it. } }
            - filter: { response_flag_filter: { flags: [ UF, UH, UC ] } }
              status_code: 502
              body_format_override: { json_format: { error_code: TEMPORARILY_UNAVAILABLE, message: MLflow is away. } }
    """,
    nginx="""
        location /mlflow/ {
            error_page 401 = @unauthenticated;
            error_page 502 = @unreachable; # and likewise 403, 500 and 504
        }
        location @unauthenticated {
            default_type application/json;
            return 401 '{"error_code":"UNAUTHENTICATED","message":"A valid API key is required."}';
        }
        location @unreachable {
            default_type application/json;
            return 502 '{"error_code":"TEMPORARILY_UNAVAILABLE","message":"MLflow cannot be reached."}';
        }
    """,
)
MLFLOWS_ERRORS = snippets(
    nginx="""
        location /mlflow/ {
            proxy_intercept_errors off; # otherwise error_page replaces MLflow's errors, too
        }
    """
)

CAUSES = (
    Cause(
        id=CauseId("denial-in-other-shape"),
        hop="proxy",
        severity="contract",
        symptom="the client reports INTERNAL_ERROR for a bad key",
        what="the proxy refuses bad keys in its framework's own format",
        remedy=MLFLOWS_SHAPE,
        shows=one_in_other_shape & (refused_with("detail") | refused_with("html")),
        reddens=(*UNAUTHENTICATED,),
        fixes=OWN_ANSWERS,
    ),
    Cause(
        id=CauseId("login-redirect"),
        hop="proxy",
        severity="contract",
        symptom="the client fails on HTML when its key is bad",
        what="the proxy redirects requests without a good key to a login page, as if every client were a browser",
        remedy="answer 401",
        shows=refused_with("login"),
        reddens=(*UNAUTHENTICATED,),
        fixes=snippets(
            envoy="""
                http_filters:
                  - name: envoy.filters.http.oauth2
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.oauth2.v3.OAuth2
                      config:
                        deny_redirect_matcher: [ { name: ":path", string_match: { prefix: /mlflow/ } } ] # 401 instead
            """,
            nginx="""
                location /mlflow/ {
                    error_page 401 = @unauthenticated; # in place of a redirect to a page
                }
                location @unauthenticated {
                    default_type application/json;
                    return 401 '{"error_code":"UNAUTHENTICATED","message":"A valid API key is required."}';
                }
            """,
        ),
    ),
    Cause(
        id=CauseId("challenge-missing"),
        hop="proxy",
        severity="contract",
        symptom="clients are not told how to authenticate",
        what="the proxy's refusals lack WWW-Authenticate",
        remedy="send WWW-Authenticate with every 401",
        shows=refused_with("challenge"),
        reddens=(*UNAUTHENTICATED,),
        fixes=snippets(
            envoy="""
                local_reply_config: # of the HttpConnectionManager
                  mappers:
                    - filter: { status_code_filter: { comparison: { op: EQ, value: { default_value: 401, runtime_key: none } } } }
                      headers_to_add:
                        - append_action: OVERWRITE_IF_EXISTS_OR_ADD
                          header: { key: www-authenticate, value: 'Bearer realm="mlflow"' }
            """,
            nginx="""
                location /mlflow/ {
                    error_page 401 = @unauthenticated;
                }
                location @unauthenticated { # a WWW-Authenticate of the auth service is passed on by itself
                    default_type application/json;
                    add_header WWW-Authenticate 'Bearer realm="mlflow"' always;
                    return 401 '{"error_code":"UNAUTHENTICATED","message":"A valid API key is required."}';
                }
            """,
        ),
    ),
    Cause(
        id=CauseId("retry-after-missing"),
        hop="proxy",
        severity="contract",
        symptom="clients over their rate limit retry at once",
        what="the proxy's refusals lack Retry-After",
        remedy="pass on the auth service's Retry-After",
        shows=refused_with("retry"),
        reddens=(*THROTTLED,),
        fixes=snippets(
            envoy="""
                http_filters:
                  - name: envoy.filters.http.ext_authz
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
                      http_service:
                        server_uri: { uri: http://auth.internal:8002, cluster: auth, timeout: 3s }
                        path_prefix: /authorize
                        authorization_response: { allowed_client_headers: { patterns: [ { exact: retry-after } ] } }
            """,
            nginx="""
                location /mlflow/ {
                    auth_request_set $auth_status $upstream_status;
                    auth_request_set $retry_after $upstream_http_retry_after;
                    error_page 500 = @not_decided; # what auth_request makes of a 429
                }
                location @not_decided {
                    default_type application/json;
                    add_header Retry-After $retry_after always;
                    if ($auth_status = 429) { return 429 '{"error_code":"REQUEST_LIMIT_EXCEEDED","message":"Over the limit."}'; }
                    return 503 '{"error_code":"TEMPORARILY_UNAVAILABLE","message":"API keys cannot be checked right now."}';
                }
            """,
        ),
    ),
    Cause(
        id=CauseId("error-detail"),
        hop="proxy",
        severity="contract",
        symptom="the client reports INTERNAL_ERROR whenever the proxy refuses a call or cannot handle it",
        what="the proxy reports its own errors in its framework's format",
        remedy=MLFLOWS_SHAPE,
        shows=all_in_other_shape & refused_with("detail"),
        reddens=(*REFUSALS,),
        fixes=OWN_ANSWERS,
    ),
    Cause(
        id=CauseId("error-html"),
        hop="proxy",
        severity="contract",
        symptom="the client reports INTERNAL_ERROR with an HTML page whenever the proxy refuses a call or cannot handle it",
        what="the proxy reports its own errors as HTML pages",
        remedy=MLFLOWS_SHAPE,
        shows=all_in_other_shape & refused_with("html"),
        reddens=(*REFUSALS,),
        fixes=OWN_ANSWERS,
    ),
    Cause(
        id=CauseId("error-shape"),
        hop="proxy",
        severity="contract",
        symptom="the client reports INTERNAL_ERROR instead of MLflow's error code",
        what="the proxy replaces MLflow's error bodies with a page of its own",
        remedy="pass error bodies through",
        shows=on_routes(unless(UNKNOWN_RUN, lambda reply: reply.error_code == NO_SUCH or reply.status != 404)),
        explains=(
            CauseId("denial-in-other-shape"),
            CauseId("error-html"),
            CauseId("error-detail"),
            CauseId("delete-body-dropped"),
            CauseId("query-dropped"),
            CauseId("method-filter"),
            CauseId("head-refused"),
            CauseId("v3-unrouted"),
            CauseId("otlp-unrouted"),
            CauseId("artifacts-unrouted"),
            CauseId("plus-decoded"),
            CauseId("percent-decoded-twice"),
            CauseId("blank-parameters-dropped"),
        ),
        reddens=(
            *REFUSALS,
            *ERRORS,
            *COMPARED,
        ),
        fixes=MLFLOWS_ERRORS,
    ),
    Cause(
        id=CauseId("status-rewritten"),
        hop="proxy",
        severity="contract",
        symptom="a missing resource is reported as a server error, and the call is retried for minutes",
        what="the proxy answers 500 instead of MLflow's own error statuses",
        remedy="pass statuses through",
        shows=on_routes(unless(UNKNOWN_RUN, lambda reply: reply.status == 404 or reply.error_code != NO_SUCH)),
        explains=(
            CauseId("denial-in-other-shape"),
            CauseId("error-shape"),
            CauseId("method-filter"),
            CauseId("head-refused"),
            CauseId("origin-403"),
        ),
        reddens=(
            *REFUSALS,
            *ERRORS,
            *COMPARED,
            r"test_identities_take_turns",
            r"test_no_log_has_a_key",
        ),
        fixes=MLFLOWS_ERRORS,
    ),
)
