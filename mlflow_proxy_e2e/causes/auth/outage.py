"""The proxy gets no decision from the auth service: why, and what it then does with the call."""

from __future__ import annotations

from typing import Literal

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import ALL, WITHOUT_KEY
from mlflow_proxy_e2e.causes.snippets import ASK, snippets
from mlflow_proxy_e2e.facts.admission import auth_is_ill, wholly_open
from mlflow_proxy_e2e.facts.facts import Facts
from mlflow_proxy_e2e.facts.outage import (
    about_keys,
    decision,
    health,
    made_up_key_fails_too,
    made_up_key_unanswered,
    nobody_answered,
    says_keys_not_checked,
)
from mlflow_proxy_e2e.facts.refused import refused_like_nobody, refuses_by_auth
from mlflow_proxy_e2e.facts.sign import Sign, holds
from mlflow_proxy_e2e.facts.stopped import at_edge, slow, status, stopped, stops

UNAVAILABLE_AT_ONCE = "503 at once on every call, with or without a key"


Fails = Literal["500", "slow", "down", "error", "404", "nonsense"]


def _how_auth_fails(facts: Facts) -> Fails | None:
    """Return how the auth service of the lab's own stack fails to check keys, or None where it cannot be asked."""
    seen, asked, decided = stopped(facts), health(facts), decision(facts)
    if not seen or asked is None or decided is None:
        return None
    if seen.status == 500:
        return "500"
    if decided.failure == "unanswered" or decided.seconds > timeouts.NO_TIME_OUT or seen.is_slow:
        return "slow"
    if asked.failure == "refused":
        return "down"
    if (decided.status or 0) >= 500:
        return "error"
    if decided.status == 404:
        return "404"
    if not decided.header("X-Auth-Key-Id"):
        return "nonsense"
    return "404" if facts.lines_at("auth", seen.reply.request_id) else "down"


def _auth_fails(how: Fails) -> Sign:
    """Return the sign that the auth service fails in one of these ways. UNKNOWN where it cannot be asked."""
    return stops(lambda facts, _: None if (fails := facts.once(_how_auth_fails)) is None else fails == how)


def _fail_open(facts: Facts, _: tuple[str, ...]) -> bool | None:
    return auth_is_ill(facts)


cannot_ask_auth = holds(lambda facts: health(facts) is None or decision(facts) is None)
# From outside, it takes the refusal's wording, or an invalid key that fails in the same way.
unchecked_from_outside = (about_keys & cannot_ask_auth & says_keys_not_checked) | made_up_key_fails_too
unchecked = (about_keys & ~cannot_ask_auth) | unchecked_from_outside
no_decision = unchecked & (~slow | ~cannot_ask_auth) & ~status(500)
health_away = nobody_answered & ~at_edge & stops(lambda facts, _: (asked := health(facts)) is not None and asked.status != 200)
slow_decision = (unchecked & _auth_fails("slow")) | (unchecked_from_outside & slow)
UNNAMED = (("everybody gets the same error, with a key or without", about_keys & cannot_ask_auth),)


# If the auth service does not decide, nobody is let in.
FAIL_CLOSED = snippets(
    envoy="""
        http_filters:
          - name: envoy.filters.http.ext_authz
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
              failure_mode_allow: false
              status_on_error: { code: ServiceUnavailable } # without it, 403
              http_service:
                server_uri: { uri: http://auth.internal:8002, cluster: auth, timeout: 3s }
                path_prefix: /authorize
    """,
    nginx="""
        location /mlflow/ {
            auth_request /authorize;
            error_page 500 = @not_decided; # what auth_request makes of every answer but 2xx, 401 and 403
        }
        location @not_decided {
            default_type application/json;
            return 503 '{"error_code":"TEMPORARILY_UNAVAILABLE","message":"API keys cannot be checked right now."}';
        }
    """,
)

CAUSES = (
    Cause(
        id=CauseId("auth-down"),
        hop="auth",
        severity="down",
        symptom=UNAVAILABLE_AT_ONCE,
        what="nothing listens at the address that the proxy has for the auth service",
        remedy="start the auth service, and point the proxy at its service-discovery name",
        shows=(no_decision & _auth_fails("down")).located("auth"),
        reddens=(ALL,),
        fixes=snippets(
            envoy="""
                clusters:
                  - name: auth
                    type: STRICT_DNS # the name is resolved again and again
                    load_assignment:
                      cluster_name: auth
                      endpoints:
                        - lb_endpoints:
                            - endpoint: { address: { socket_address: { address: auth.internal, port_value: 8002 } } }
            """,
            nginx="""
                server {
                    resolver 10.0.0.2 valid=5s; # your DNS server
                    location = /authorize {
                        internal;
                        proxy_pass http://auth.internal:8002/authorize/mlflow$below; # a variable: the name is resolved again
                    }
                }
            """,
        ),
    ),
    Cause(
        id=CauseId("auth-slow"),
        hop="auth",
        severity="down",
        symptom="503 on every call, with or without a key, after the proxy's timeout",
        what="the auth service takes longer to decide than the proxy waits",
        remedy="find out what the auth service waits for: its database, its network",
        shows=(slow_decision | made_up_key_unanswered | health_away).located("auth"),
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("auth-500"),
        hop="auth",
        severity="down",
        symptom=UNAVAILABLE_AT_ONCE,
        what="the auth service fails on every decision",
        remedy="look for the reason in the auth service's log",
        shows=(no_decision & _auth_fails("error")).located("auth"),
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("auth-nonsense"),
        hop="auth",
        severity="down",
        symptom=UNAVAILABLE_AT_ONCE,
        what="another service answers in place of the auth service: it accepts every request without naming the caller",
        remedy="point the proxy at the auth service's own decision endpoint",
        shows=(no_decision & _auth_fails("nonsense")).located("auth"),
        reddens=(ALL,),
        fixes=ASK,
    ),
    Cause(
        id=CauseId("auth-404"),
        hop="auth",
        severity="down",
        symptom=UNAVAILABLE_AT_ONCE,
        what="the proxy asks the auth service at a path that it does not have",
        remedy="have the proxy ask below /authorize",
        shows=(no_decision & _auth_fails("404")).located("auth"),
        reddens=(ALL,),
        fixes=ASK,
    ),
    Cause(
        id=CauseId("outage-as-401"),
        hop="auth",
        severity="down",
        symptom="401 on every call, even with good keys",
        what="the proxy cannot reach the auth service, and treats that like a bad key",
        remedy="answer 503 when the key cannot be checked, and bring the auth service back",
        shows=refuses_by_auth("outage") | refused_like_nobody,
        reddens=(ALL,),
        fixes=FAIL_CLOSED,
    ),
    Cause(
        id=CauseId("outage-as-500"),
        hop="auth",
        severity="down",
        symptom="500 on every call, with or without a key",
        what="the proxy cannot reach the auth service, and does not handle that error",
        remedy="answer 503 when the key cannot be checked, and bring the auth service back",
        shows=((unchecked & _auth_fails("500")) | (unchecked_from_outside & ~slow & status(500))).located("auth"),
        reddens=(ALL,),
        fixes=FAIL_CLOSED,
    ),
    Cause(
        id=CauseId("fail-open"),
        hop="auth",
        severity="open",
        symptom="everybody is let in, with any key or none",
        what="the auth service fails on every decision, and the proxy lets requests through",
        remedy="fail closed: answer 503, and look for the reason in the auth service's log",
        reports=("oidc#289",),
        shows=wholly_open(_fail_open).located("auth"),
        reddens=(*WITHOUT_KEY,),
        fixes=FAIL_CLOSED,
    ),
)
