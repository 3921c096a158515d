"""Leaks: keys and internal addresses in logs and answers."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import DENIALS
from mlflow_proxy_e2e.causes.snippets import snippets
from mlflow_proxy_e2e.checks.leaks import internal_addresses
from mlflow_proxy_e2e.facts.comparisons import Test
from mlflow_proxy_e2e.facts.facts import READ, Facts
from mlflow_proxy_e2e.facts.question import Question, Reply
from mlflow_proxy_e2e.facts.sign import on_routes
from mlflow_proxy_e2e.target import Route


def _headers(reply: Reply) -> bytes:
    names = ("server", "date", "etag", "via")  # headers with versions and numbers that look like addresses
    headers = reply.came.headers if not isinstance(reply.came, str) else ()
    return b"\n".join(value.encode() for name, value in headers if name.lower() not in names)


def _said(reply: Reply) -> bytes:
    return b"\n".join([_headers(reply), reply.body[:4000]])


def _names_internal(facts: Facts, route: Route, said: bytes) -> bool:
    """Tell whether a reply has an internal address that is neither the route's own nor put there by MLflow."""
    direct = facts.ask_directly(READ)
    known, own = _said(direct) if direct else b"", urlsplit(route.url).netloc.encode()
    return any(found not in known for found in internal_addresses(said, own))


def _address_in_answer(facts: Facts, route: Route) -> Reply | None:
    answer = facts.ask(route, READ)
    return answer if _names_internal(facts, route, _said(answer) if facts.direct else _headers(answer)) else None


def _address_in_refusal(facts: Facts, route: Route) -> Reply | None:
    refusal = facts.reply(Question(route, READ))
    return refusal if not refusal.works and _names_internal(facts, route, _said(refusal)) else None


def _echo(facts: Facts, route: Route) -> Reply | None:
    reply = facts.ask(route, READ)
    key = facts.control.key.reveal().encode() if facts.control.key else None
    return reply if key and key in _said(reply) else None


def _logged(in_query: bool) -> Test:  # noqa: FBT001 - one of two ways in which a key gets into a log
    """Return the test that this very request puts a key into a hop's log: tests may have sent keys in odd places themselves."""

    def wrong(facts: Facts, route: Route) -> Reply | None:
        if facts.control.key is None or not facts.has_logs:
            return None
        key = facts.control.key.reveal()
        before = len(facts.lines_with([key], ("edge", "proxy"), "a key"))
        asked = Question(route, replace(READ, path=f"{READ.path}&api_key={key}")) if in_query else facts.question(route, READ)
        reply = facts.again(asked)
        facts.lines(reply.request_id)  # by then, the lines about it have been written
        return reply if len(facts.lines_with([key], ("edge", "proxy"), "a key")) > before else None

    return wrong


LOG_WITHOUT_KEYS = snippets(
    envoy="""
        access_log: # of the HttpConnectionManager: no request headers, and the path without its query
          - name: envoy.access_loggers.stdout
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
              log_format:
                text_format_source: { inline_string: "%REQ(:METHOD)% %REQ_WITHOUT_QUERY(:PATH)% %RESPONSE_CODE%\\n" }
                formatters:
                  - name: envoy.formatter.req_without_query
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery
    """,
    nginx="""
        http {
            log_format calls '$remote_addr [$time_local] "$request_method $uri" $status'; # not $request or $args
            access_log /var/log/nginx/access.log calls;
            error_log stderr crit; # it repeats request lines, with their query
        }
    """,
)

CAUSES = (
    Cause(
        id=CauseId("internal-leak"),
        hop="proxy",
        severity="hardening",
        symptom="answers reveal MLflow's internal address",
        what="the proxy adds its upstream's address to answers",
        remedy="remove the upstream's address from responses",
        shows=on_routes(_address_in_answer),
        reddens=(r"test_secrets\.py::test_no_answer_says_where\[.*(malformed|read)",),
    ),
    Cause(
        id=CauseId("internal-leak-in-errors"),
        hop="proxy",
        severity="hardening",
        symptom="refusals reveal the auth service's internal address",
        what="the proxy puts the error of its own call to the auth service into its answer",
        remedy="log the error, and leave it out of the response",
        shows=on_routes(_address_in_refusal),
        reddens=(r"test_secrets\.py::test_no_answer_says_where",),
        fixes=snippets(
            envoy="""
                local_reply_config: # of the HttpConnectionManager
                  mappers:
                    - filter:
                        and_filter:
                          filters: # of the key check, and no decision
                            - response_flag_filter: { flags: [ UAEX ] }
                            - status_code_filter: { comparison: { op: GE, value: { default_value: 500, runtime_key: none } } }
                      body_format_override:
                        json_format: { error_code: TEMPORARILY_UNAVAILABLE, message: API keys cannot be checked right now. }
            """,
            nginx="""
                location /mlflow/ {
                    error_page 500 = @not_decided;
                }
                location @not_decided {
                    default_type application/json;
                    return 503 '{"error_code":"TEMPORARILY_UNAVAILABLE","message":"API keys cannot be checked right now."}';
                }
            """,
        ),
    ),
    Cause(
        id=CauseId("credential-leak"),
        hop="proxy",
        severity="open",
        symptom="keys appear in the proxy's log",
        what="the proxy logs request headers, as for debugging",
        remedy="keep headers that carry keys out of logs, and revoke the keys that were logged",
        shows=on_routes(_logged(in_query=False)),
        explains=(CauseId("query-logged"),),
        reddens=(r"test_secrets\.py::test_no_log_has_a_key",),
        fixes=LOG_WITHOUT_KEYS,
    ),
    Cause(
        id=CauseId("query-logged"),
        hop="proxy",
        severity="hardening",
        symptom="keys in a URL appear in the proxy's log",
        what="the proxy logs URLs with their query",
        remedy="log paths only, and revoke the keys that were logged",
        shows=on_routes(_logged(in_query=True)),
        reddens=(r"test_secrets\.py::test_no_log_has_a_key\[.*query",),
        fixes=LOG_WITHOUT_KEYS,
    ),
    Cause(
        id=CauseId("key-echoed"),
        hop="proxy",
        severity="open",
        symptom="answers repeat the key that was sent",
        what="the proxy adds request headers to answers, as for debugging",
        remedy="remove headers that carry keys from responses",
        shows=on_routes(_echo),
        reddens=(
            r"test_denials\.py::test_read\[",
            DENIALS,
            r"test_trace_echoes_no_key",
        ),
    ),
)
