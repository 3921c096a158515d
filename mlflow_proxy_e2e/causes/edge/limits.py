"""Calls that the edge cuts off or refuses although MLflow would accept them."""

from __future__ import annotations

from functools import partial

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import ENDPOINTS, LARGE_UPLOADS, OPEN_CONNECTIONS, external
from mlflow_proxy_e2e.causes.proxy.headers import connection_closed
from mlflow_proxy_e2e.causes.proxy.limits import large_body_refused
from mlflow_proxy_e2e.causes.snippets import KEEP_ALIVE, snippets
from mlflow_proxy_e2e.facts.comparisons import limited
from mlflow_proxy_e2e.facts.facts import SINGLE_CALLS, Facts
from mlflow_proxy_e2e.facts.outage import edge_fails, only_without_logs, waited_in_vain
from mlflow_proxy_e2e.facts.question import Reply
from mlflow_proxy_e2e.facts.sandbox import BODY_BYTES, padded
from mlflow_proxy_e2e.facts.sign import NO, Reading, Shows, Sign, needing
from mlflow_proxy_e2e.facts.slow_calls import download_ended, upload_ended
from mlflow_proxy_e2e.facts.stopped import slow, stops

# Calls on the two paths of traces. MLflow itself refuses both: one has no spans, and the other no experiment.
_padded_spans = partial(padded, "/v1/traces", b'{"resourceSpans": []')
_padded_search = partial(padded, "/api/3.0/mlflow/traces/search", b'{"max_results": 1')


def _is_let_through(reply: Reply) -> bool:
    return reply.status not in (403, 413) and reply.failure != "closed"


def _burst_refused(facts: Facts) -> Reading:
    if not (refused := facts.burst_refusals):
        return NO
    routes = [reply.question.route for reply in refused]
    because = f"refused as one of many calls at once; sent alone, it was answered {SINGLE_CALLS} times"
    return Reading(Shows.YES, (refused[0], because), facts.behind(routes), frozenset(map(str, routes)))


cut_by_edge = (edge_fails & slow & only_without_logs) | (waited_in_vain & stops(lambda _, seen: "edge" in seen.hops))


UNLIMITED = snippets(
    envoy="""
        routes:
          - match: { prefix: /api/mlflow/ }
            route: { cluster: proxy, prefix_rewrite: /mlflow/, timeout: 0s }
            typed_per_filter_config: # the buffer filter has a limit
              envoy.filters.http.buffer:
                "@type": type.googleapis.com/envoy.extensions.filters.http.buffer.v3.BufferPerRoute
                disabled: true
    """,
    nginx="""
        server {
            client_max_body_size 0;
        }
    """,
)

CAUSES = (
    Cause(
        id=CauseId("idle-timeout"),
        hop="edge",
        severity="down",
        symptom="calls with a pause are cut off, always after the same time",
        what="the edge's idle timeout is shorter than such pauses",
        remedy="raise the idle timeout above the longest pause; MLflow's client waits two minutes",
        reports=("mlflow#7564",),
        shows=upload_ended | cut_by_edge,
        explains=(
            CauseId("edge-timeout-too-short"),
            CauseId("timeout-too-short"),
        ),
        reddens=(external(r"test_slow_calls\.py::test_upload_with_pause"),),
        fixes=snippets(
            envoy="""
                # of the HttpConnectionManager
                stream_idle_timeout: 180s
            """,
            nginx="""
                location /api/mlflow/ { # each is about a pause, not about a whole call
                    client_body_timeout 180s;
                    proxy_send_timeout 180s;
                    proxy_read_timeout 180s;
                    send_timeout 180s;
                }
            """,
            aws="""
                aws elbv2 modify-load-balancer-attributes --load-balancer-arn "$LOAD_BALANCER_ARN" \\
                  --attributes Key=idle_timeout.timeout_seconds,Value=180
            """,
        ),
    ),
    Cause(
        id=CauseId("edge-timeout-too-short"),
        hop="edge",
        severity="down",
        symptom="large downloads end early, always after the same time",
        what="the edge limits how long a whole call may take",
        remedy="limit idle time instead",
        reports=("mlflow#7564",),
        shows=download_ended.at("edge"),
        reddens=(external(r"test_slow_calls\.py", r"test_artifacts\.py::test_large_file"),),
        fixes=snippets(
            envoy="""
                # of the HttpConnectionManager
                stream_idle_timeout: 180s
                route_config:
                  virtual_hosts:
                    - name: any
                      domains: ["*"]
                      routes:
                        - match: { prefix: /api/mlflow/ }
                          route: { cluster: proxy, prefix_rewrite: /mlflow/, timeout: 0s } # the default is 15 s
            """
        ),
    ),
    Cause(
        id=CauseId("edge-body-size-limit"),
        hop="edge",
        severity="down",
        symptom="413 on large uploads, while small ones work",
        what="the edge limits the size of request bodies",
        remedy="lift the limit for MLflow's artifact paths",
        reports=("mlflow#10332",),
        shows=large_body_refused.at("edge"),
        explains=(CauseId("trace-size-limit"),),
        reddens=(external(*LARGE_UPLOADS),),
        fixes=UNLIMITED,
    ),
    Cause(
        id=CauseId("trace-size-limit"),
        hop="edge",
        severity="down",
        symptom="traces with long inputs or outputs are missing, while small ones are there",
        what="the size of request bodies is limited on the paths of traces only",
        remedy="allow as large bodies on /v1/traces and /api/3.0/mlflow/traces as elsewhere: prompts may contain whole documents",
        shows=(needing("otlp", scope="write") & limited(_padded_spans, BODY_BYTES, _is_let_through))
        | (needing("traces") & limited(_padded_search, BODY_BYTES, _is_let_through)),
        reddens=(external(r"large_trace"),),
        fixes=UNLIMITED,
    ),
    Cause(
        id=CauseId("burst-refused"),
        hop="edge",
        severity="down",
        symptom="503 or 429 on some of many concurrent calls, as when a folder is uploaded, while each succeeds by itself",
        what="the limit on calls from one address, by rate or concurrency, is lower than what a single client needs",
        remedy="limit calls by key instead, or allow a hundred at once; answer 429 with Retry-After, which clients respect",
        shows=Sign(_burst_refused),
        reddens=(external(r"test_\w+_in_flight", ENDPOINTS),),
        fixes=snippets(
            envoy="""
                clusters:
                  - name: proxy
                    circuit_breakers:
                      thresholds: [ { max_connections: 1024, max_pending_requests: 1024, max_requests: 1024 } ]
            """,
            nginx="""
                http {
                    map $http_authorization $key { "" $http_x_api_key; default $http_authorization; }
                    limit_req_zone $key zone=by_key:10m rate=100r/s; # calls without a key are not counted
                    server {
                        location /api/mlflow/ {
                            limit_req zone=by_key burst=100 nodelay;
                            limit_req_status 429;
                        }
                    }
                }
            """,
            aws="""
                # a rule of the AWS::WAFv2::WebACL, in place of one that counts by address
                Name: calls-by-key
                Priority: 1
                Action: { Block: { CustomResponse: { ResponseCode: 429, ResponseHeaders: [ { Name: Retry-After, Value: "5" } ] } } }
                Statement:
                  RateBasedStatement:
                    Limit: 30000 # in five minutes
                    AggregateKeyType: CUSTOM_KEYS
                    CustomKeys: [ { Header: { Name: authorization, TextTransformations: [ { Priority: 0, Type: NONE } ] } } ]
                VisibilityConfig: { SampledRequestsEnabled: false, CloudWatchMetricsEnabled: true, MetricName: calls-by-key }
            """,
        ),
    ),
    Cause(
        id=CauseId("edge-keep-alive-off"),
        hop="edge",
        severity="hardening",
        symptom="every call is slow to start",
        what="the edge closes the connection after each answer",
        remedy="let clients keep their connections open",
        shows=connection_closed.at("edge"),
        reddens=(external(*OPEN_CONNECTIONS),),
        fixes=snippets(
            envoy=KEEP_ALIVE["Envoy"],
            nginx=KEEP_ALIVE["nginx"],
            aws="""
                aws elbv2 modify-load-balancer-attributes --load-balancer-arn "$LOAD_BALANCER_ARN" \\
                  --attributes Key=client_keep_alive.seconds,Value=3600
            """,
        ),
    ),
)
