"""Calls that the proxy refuses although MLflow would accept them."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import replace

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import ENDPOINTS, LARGE_UPLOADS, OTLP
from mlflow_proxy_e2e.causes.proxy.headers import SPANS_OF_EXPERIMENT
from mlflow_proxy_e2e.causes.snippets import LONG_HEADERS, snippets
from mlflow_proxy_e2e.facts.comparisons import in_sandbox, limited, method_blocked, status_differs, status_is_not, unless
from mlflow_proxy_e2e.facts.facts import READ, Facts
from mlflow_proxy_e2e.facts.question import Reply
from mlflow_proxy_e2e.facts.sandbox import API, BODY_BYTES, GRAPHQL, Sandbox, get, padded_search
from mlflow_proxy_e2e.facts.sign import Sign, needing, on_routes, shared
from mlflow_proxy_e2e.target import Route
from mlflow_proxy_e2e.wire import JSON, Headers, Request

ALLOW_ALL_METHODS = "allow all methods that MLflow supports"


LONG = get(f"experiments/get-by-name?experiment_name={'x' * 4000}")  # half of what most servers accept
MANY_HEADERS = tuple((f"X-Some-{number}", "x") for number in range(40))  # as many as browsers behind a few proxies send
UPDATE = Request("PATCH", f"{API}/registered-models/update", JSON, b"{}")  # of no model: MLflow answers that the name is missing
DELETE = Request("DELETE", f"{API}/registered-models/delete", JSON, b"{}")
SPANS_ZIPPED = Request(
    "POST",
    "/v1/traces",
    (*JSON, ("X-Mlflow-Experiment-Id", "0"), ("Content-Encoding", "gzip")),
    gzip.compress(b'{"resourceSpans": []}', mtime=0),
)
# A call on each of MLflow's families of paths, with the capability that promises it: a read-only key gets there, or is forbidden.
PATHS = (
    ("otlp", SPANS_OF_EXPERIMENT),
    ("graphql", GRAPHQL),
    ("artifacts", Request("GET", "/api/2.0/mlflow-artifacts/artifacts?path=no-such")),
    ("traces", Request("GET", "/api/3.0/mlflow/server-info")),
    ("ui", Request("GET", "/ajax-api/2.0/mlflow/experiments/search?max_results=1")),
    ("ui", Request("GET", "/")),
    ("gateway", Request("GET", "/gateway/mlflow/v1/models")),
)
CHUNKED: Headers = (("Transfer-Encoding", "chunked"),)
THREE_IN_CHUNKS = b"3\r\nabc\r\n0\r\n\r\n"


def _refuses(upload: Callable[[Sandbox, object], Request], *how: int | None) -> Sign:
    """Return the sign that an upload gets one of these statuses, where a plain small one is accepted."""

    def wrong(facts: Facts, route: Route, own: Sandbox) -> Reply | None:
        if facts.ask(route, own.plain_file(route)).status != 200:
            return None
        reply = facts.ask(route, upload(own, route))
        if reply.status not in how or reply.failure not in (None, "closed"):
            return None
        direct = facts.ask_directly(reply.question.request)
        return reply if direct is None or direct.status == 200 else None

    return needing("artifacts") & in_sandbox(wrong)


def _plain_upload(facts: Facts, route: Route, own: Sandbox) -> Reply | None:
    return method_blocked(own.plain_file(route))(facts, route)


def _chunked(own: Sandbox, by: object) -> Request:
    return Request("PUT", f"{own.artifacts}/{by}-chunked.bin", CHUNKED, THREE_IN_CHUNKS)


def _asks_for_others(facts: Facts, route: Route) -> Reply | None:
    """Return a 401 to a good key on one of MLflow's paths, where MLflow itself does not answer 401."""
    promised = (request for capability, request in PATHS if capability in facts.target.capabilities)
    replies = facts.replies(facts.question(route, request) for request in promised)
    refused = [reply for reply in replies if reply.status == 401 != facts.target.contract.forbidden]
    by_mlflow = [direct for reply in refused if (direct := facts.ask_directly(reply.question.request))]
    return refused[0] if refused and not any(direct.status == refused[0].status for direct in by_mlflow) else None


registry_methods = needing("registry", scope="write") & (on_routes(method_blocked(UPDATE)) | on_routes(method_blocked(DELETE)))
small_body_refused = limited(padded_search, BODY_BYTES, status_is_not(413))
large_upload_refused = needing("large-bodies") & _refuses(Sandbox.large_file, 413, None)
large_body_refused = shared("large body refused", small_body_refused | large_upload_refused)


ANY_SIZE = snippets(
    envoy="""
        routes:
          - match: { prefix: /mlflow/ }
            route: { cluster: mlflow, prefix_rewrite: /, timeout: 0s }
            typed_per_filter_config: # the buffer filter has a limit
              envoy.filters.http.buffer:
                "@type": type.googleapis.com/envoy.extensions.filters.http.buffer.v3.BufferPerRoute
                disabled: true
    """,
    nginx="""
        server { # not only in a location: the request of auth_request is limited as well
            client_max_body_size 0;
        }
    """,
)
ALL_METHODS = snippets(
    nginx="""
        location /mlflow/ {
            limit_except GET POST PUT PATCH DELETE OPTIONS { # GET includes HEAD
                deny all;
            }
        }
    """
)

CAUSES = (
    Cause(
        id=CauseId("method-filter"),
        hop="proxy",
        severity="down",
        symptom="405 on updates or deletions that use PATCH, DELETE or PUT",
        what="the proxy allows an incomplete list of methods",
        remedy=ALLOW_ALL_METHODS,
        shows=registry_methods | (needing("artifacts") & in_sandbox(_plain_upload)),
        explains=(CauseId("delete-body-dropped"),),
        reddens=(
            r"::test_\w*(delete|update|rename|finalize|override|tag|patch|promote|transition|alias|merge)",
            ENDPOINTS,
            r"::test_(client_raises_)?denied_(write|step)",
            r"test_(prompts|logged_models|model_registration)\.py",
        ),
        fixes=ALL_METHODS,
    ),
    Cause(
        id=CauseId("head-refused"),
        hop="proxy",
        severity="down",
        symptom="405 on HEAD",
        what="the proxy allows an incomplete list of methods",
        remedy=ALLOW_ALL_METHODS,
        shows=on_routes(method_blocked(Request("HEAD", READ.path))),
        reddens=(
            r"test_(ui|fidelity_transfer)\.py::test_head",
            rf"{ENDPOINTS}::test_verbs",
        ),
        fixes=ALL_METHODS,
    ),
    Cause(
        id=CauseId("chunked-refused"),
        hop="proxy",
        severity="down",
        symptom="411 on empty and streamed uploads",
        what="the proxy requires the length of every body in advance",
        remedy="accept chunked bodies",
        shows=_refuses(_chunked, 400, 411, 501),
        reddens=(
            r"test_chunked_upload",
            r"test_odd_upload\[.*(chunk|trailers)",
            r"test_artifacts\.py::test_\w+\[.*-empty",
        ),
    ),
    Cause(
        id=CauseId("compressed-refused"),
        hop="proxy",
        severity="down",
        symptom="415 on traces that are sent compressed",
        what="the proxy refuses compressed bodies",
        remedy="pass compressed bodies through",
        shows=needing("otlp", scope="write") & on_routes(status_differs(SPANS_ZIPPED, 400, 411, 413, 415, 501)),
        reddens=(
            r"test_coded_request",
            r"test_odd_upload\[.*-gzip",
            r"test_otlp\.py::test_send_spans\[.*-gzip",
        ),
    ),
    Cause(
        id=CauseId("path-of-another-gate"),
        hop="proxy",
        severity="down",
        symptom="401 on some paths with a good key, such as on traces sent by OpenTelemetry, while others work",
        what="these paths are behind another gate, which requires different credentials",
        remedy="have the same gate check every path of MLflow",
        shows=on_routes(_asks_for_others),
        explains=(CauseId("compressed-refused"),),
        reddens=(
            OTLP,
            r"test_fidelity_(requests\.py::test_header_value|transfer\.py::test_coded_request)",
            ENDPOINTS,
        ),
    ),
    Cause(
        id=CauseId("long-query-refused"),
        hop="proxy",
        severity="down",
        symptom="414 when many runs are requested at once",
        what="the proxy limits URLs to a kilobyte",
        remedy="allow at least 8 KB",
        shows=on_routes(unless(LONG, status_is_not(400, 413, 414, 431))),
        reddens=(
            r"test_query\[.*-long",
            r"test_query_in_log",
            r"test_fidelity_names\.py",
        ),
        fixes=LONG_HEADERS,
    ),
    Cause(
        id=CauseId("headers-limited"),
        hop="proxy",
        severity="down",
        symptom="431 for clients that send many headers, as browsers and tracing do",
        what="the proxy limits the number of headers",
        remedy="allow at least 100 headers",
        shows=on_routes(unless(replace(READ, headers=MANY_HEADERS), status_is_not(400, 431, 500))),
        reddens=(r"test_many_headers",),
        fixes=snippets(
            envoy="""
                # of the HttpConnectionManager
                common_http_protocol_options: { max_headers_count: 200 } # the default is 100
            """
        ),
    ),
    Cause(
        id=CauseId("body-size-limit"),
        hop="proxy",
        severity="down",
        symptom="413 on large uploads, while small ones work",
        what="the proxy limits the size of request bodies",
        remedy="lift the limit for MLflow's artifact paths",
        reports=("mlflow#10332",),
        shows=large_body_refused.at("proxy"),
        explains=(CauseId("trace-size-limit"),),
        reddens=(*LARGE_UPLOADS,),
        fixes=ANY_SIZE,
    ),
)
