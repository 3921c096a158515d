"""Headers that are dropped, added or changed, and connections that are closed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlsplit

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import COMPARED, CONVERSATIONS, ENDPOINTS, OPEN_CONNECTIONS, OTLP
from mlflow_proxy_e2e.causes.snippets import KEEP_ALIVE, snippets
from mlflow_proxy_e2e.facts.comparisons import differs, in_sandbox, status_differs, unless
from mlflow_proxy_e2e.facts.facts import READ, Facts
from mlflow_proxy_e2e.facts.question import Reply
from mlflow_proxy_e2e.facts.sandbox import DEFAULT_EXPERIMENT, Sandbox, post
from mlflow_proxy_e2e.facts.sign import Reading, Shows, Sign, needing, on_each_route, on_routes, shared
from mlflow_proxy_e2e.run import PREFIX
from mlflow_proxy_e2e.target import Route
from mlflow_proxy_e2e.wire import JSON, Headers, Request

FORWARD_ALL = "forward all request headers except the proxy's own"


PAGE = Request("GET", "/")
SEARCH = post("runs/search", {"experiment_ids": [], "max_results": 1})
OTHER_ORIGIN = "https://elsewhere.example"
READ_BY_OTHERS = replace(READ, headers=(("Origin", OTHER_ORIGIN),))  # as by a page of another site: many allow an origin only then
DIGITS = b"0123456789"
PART: Headers = (("Range", "bytes=1-2"),)
EXPERIMENT_ID = "X-MLflow-Experiment-Id"
SPANS_OF_EXPERIMENT = Request("POST", "/v1/traces", (*JSON, (EXPERIMENT_ID, "0")), b'{"resourceSpans": []}')
SERVER_INFO = Request("GET", "/api/3.0/mlflow/server-info")
IN_WORKSPACE = replace(DEFAULT_EXPERIMENT, headers=(("X-MLFLOW-WORKSPACE", f"{PREFIX}-no-such-workspace"),))
PROTECTION = ("X-Content-Type-Options", "X-Frame-Options")  # MLflow tells browsers not to guess types, and not to frame pages
TIMES = 2  # to rule out that it happened by chance


def _conditional(facts: Facts, route: Route) -> Reply | None:
    tag = page.header("ETag") if (page := facts.ask_directly(PAGE)) else None
    return status_differs(replace(PAGE, headers=(("If-None-Match", tag),)), 200)(facts, route) if tag else None


def _downloaded(content: bytes, headers: Headers, of: Callable[[Reply], object]) -> Sign:
    """Return the sign that a download differs from MLflow's own in such a way."""

    def wrong(facts: Facts, route: Route, own: Sandbox) -> Reply | None:
        file = f"{own.artifacts}/known-{len(content)}.txt"
        put = facts.ask_directly(Request("PUT", file, body=content))
        if not put or put.status != 200:
            return None
        reply = facts.difference(Request("GET", file, headers), None, of, route)
        return reply if reply and reply.status in (200, 206) else None

    return needing("artifacts") & in_sandbox(wrong)


def _experiment_unnamed(facts: Facts, route: Route) -> Reply | None:
    """Return MLflow's answer that the header is missing, to spans that name their experiment in it."""
    reply, direct = facts.ask(route, SPANS_OF_EXPERIMENT), facts.ask_directly(SPANS_OF_EXPERIMENT)
    return reply if _misses_header(reply) and not (direct and _misses_header(direct)) else None


def _misses_header(reply: Reply) -> bool:
    return reply.status == 422 and b'"missing"' in reply.body and EXPERIMENT_ID.lower().encode() in reply.body.lower()


def _workspace_unnamed(facts: Facts, route: Route) -> Reply | None:
    """Return a read in a workspace that does not exist, answered as if none was named, by an MLflow that supports workspaces."""
    info = facts.ask(route, SERVER_INFO)
    if not info.works or "workspaces_enabled" not in info.json():
        return None
    reply, plain, direct = facts.ask(route, IN_WORKSPACE), facts.ask(route, DEFAULT_EXPERIMENT), facts.ask_directly(IN_WORKSPACE)
    is_ignored = reply.works and reply.body == plain.body
    return reply if is_ignored and not (direct and direct.works) else None


def _lost_protection(facts: Facts, route: Route) -> list[str]:
    """Return the protective headers that MLflow's own answer has and the answer on a route lacks."""
    reply, direct = facts.ask(route, READ), facts.ask_directly(READ)
    if not direct or not reply.works:
        return []
    framed = reply.header("Content-Security-Policy") is not None  # which replaces X-Frame-Options
    asked = (name for name in PROTECTION if not (framed and name == "X-Frame-Options"))
    return [name for name in asked if direct.header(name) and not reply.header(name)]


def _unprotected(facts: Facts) -> Reading:
    """Return whether headers that protect browsers are lost, with their names as evidence."""
    lost = on_routes(lambda facts, route: facts.ask(route, READ) if _lost_protection(facts, route) else None)(facts)
    if lost.shows is not Shows.YES:
        return lost
    names = {name for route in lost.routes for name in _lost_protection(facts, facts.target.route(route))}
    return replace(lost, evidence=(*lost.evidence, f"lost: {', '.join(sorted(names))}"))


def _own_origin(facts: Facts, route: Route) -> Reply | None:
    """A write as a browser sends it from a page under the route's own URL: it must work, however other origins are treated."""
    url = urlsplit(route.url)
    own = (("Origin", f"{url.scheme}://{url.netloc}"),)
    reply = facts.ask(route, replace(SEARCH, headers=(*SEARCH.headers, *own)))
    return reply if reply.status == 403 and facts.ask(route, SEARCH).status == 200 else None


def _is_kept_from_others(reply: Reply) -> bool:
    """Tell whether pages of other sites cannot read an answer."""
    return reply.header("Access-Control-Allow-Origin") not in ("*", OTHER_ORIGIN)


def _closes_each_time(facts: Facts, route: Route) -> Reply | None:
    """A connection that is closed every time. Any server closes one now and then; MLflow itself leaves them open."""
    replies = facts.several_times(facts.question(route, READ), TIMES)
    return replies[0] if all((reply.header("Connection") or "").lower() == "close" for reply in replies) else None


connection_closed = shared("connection closed each time", on_each_route(_closes_each_time))


WITHOUT_CACHE = snippets(
    nginx="""
        location /mlflow/ {
            proxy_cache off; # a cache asks for whole files, without Range and If-None-Match
        }
    """
)
ALL_HEADERS = snippets(
    nginx="""
        location /mlflow/ {
            proxy_pass_request_headers on; # "off" belongs only into the location that asks the auth service
        }
    """
)

CAUSES = (
    Cause(
        id=CauseId("range-dropped"),
        hop="proxy",
        severity="contract",
        symptom="resumed downloads start from the beginning",
        what="the proxy does not forward Range",
        remedy=FORWARD_ALL,
        shows=_downloaded(DIGITS, PART, lambda reply: (reply.status, reply.body)),
        reddens=(
            r"test_fidelity_transfer\.py::test_range",
            r"test_conditional_request\[.*range",
            r"test_download_part",
        ),
        fixes=WITHOUT_CACHE,
    ),
    Cause(
        id=CauseId("conditions-dropped"),
        hop="proxy",
        severity="contract",
        symptom="pages are downloaded again although nothing has changed",
        what="the proxy does not forward If-None-Match and If-Modified-Since",
        remedy=FORWARD_ALL,
        shows=on_routes(_conditional),
        reddens=(
            r"test_conditional_request\[.*(none|modified)",
            r"test_ui\.py::test_not_modified",
        ),
        fixes=WITHOUT_CACHE,
    ),
    Cause(
        id=CauseId("experiment-id-dropped"),
        hop="proxy",
        severity="down",
        symptom="422 on traces sent by OpenTelemetry",
        what=f"the proxy does not forward {EXPERIMENT_ID}",
        remedy=FORWARD_ALL,
        shows=needing("otlp", scope="write") & on_routes(_experiment_unnamed),
        explains=(CauseId("compressed-refused"),),
        reddens=(
            OTLP,
            r"test_fidelity_(requests\.py::test_header_value|transfer\.py::test_coded_request)",
            CONVERSATIONS,
        ),
        fixes=ALL_HEADERS,
    ),
    Cause(
        id=CauseId("workspace-dropped"),
        hop="proxy",
        severity="loss",
        symptom="data written in a workspace ends up in the default one",
        what="the proxy does not forward X-MLFLOW-WORKSPACE",
        remedy=FORWARD_ALL,
        shows=on_routes(_workspace_unnamed),
        reddens=(r"test_workspaces\.py::test_workspace_header",),
        fixes=ALL_HEADERS,
    ),
    Cause(
        id=CauseId("security-headers-dropped"),
        hop="proxy",
        severity="hardening",
        symptom="browsers guess the type of downloads, or show MLflow in frames on other sites",
        what="the proxy drops X-Content-Type-Options or X-Frame-Options from MLflow's answers",
        remedy="pass all response headers through",
        shows=Sign(_unprotected),
        reddens=(
            *COMPARED,
            ENDPOINTS,
        ),
    ),
    Cause(
        id=CauseId("disposition-dropped"),
        hop="proxy",
        severity="contract",
        symptom="downloads from MLflow's pages have no file name",
        what="the proxy drops Content-Disposition from answers",
        remedy="pass all response headers through",
        shows=_downloaded(DIGITS, (), lambda reply: reply.header("Content-Disposition")),
        reddens=(
            r"test_names_in_headers",
            r"test_fidelity_transfer\.py::test_(head|range)",
            r"test_ui_artifacts\.py::test_download",
            rf"{CONVERSATIONS}\[.*artifacts",
        ),
    ),
    Cause(
        id=CauseId("charset-changed"),
        hop="proxy",
        severity="contract",
        symptom="non-ASCII names are garbled in some clients",
        what="the proxy declares a character set that MLflow did not",
        remedy="pass Content-Type through unchanged",
        shows=on_routes(differs(READ, lambda reply: reply.header("Content-Type"))),
        reddens=(
            *COMPARED,
            ENDPOINTS,
        ),
        fixes=snippets(
            nginx="""
                location /mlflow/ {
                    charset off;
                }
            """
        ),
    ),
    Cause(
        id=CauseId("cors-opened"),
        hop="proxy",
        severity="open",
        symptom="any web page can read MLflow's answers to calls from its visitors' browsers",
        what="the proxy allows every origin",
        remedy="leave MLflow's CORS headers unchanged",
        shows=on_routes(unless(READ_BY_OTHERS, _is_kept_from_others)),
        reddens=(
            *COMPARED,
            r"test_no_answer_is_for_others_pages",
        ),
        fixes=snippets(
            envoy="""
                routes: # with the filter envoy.filters.http.cors; or leave both out, and list the origin in --cors-allowed-origins
                  - match: { prefix: /mlflow/ }
                    route: { cluster: mlflow, prefix_rewrite: /, timeout: 0s }
                    typed_per_filter_config:
                      envoy.filters.http.cors:
                        "@type": type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy
                        allow_origin_string_match: [ { exact: https://notebooks.example.com } ]
            """,
            nginx="""
                http { # or leave this out, and list the origin in --cors-allowed-origins
                    map $http_origin $allowed_origin {
                        https://notebooks.example.com $http_origin;
                    }
                    server {
                        location /mlflow/ {
                            add_header Access-Control-Allow-Origin $allowed_origin always; # none, if it is empty
                            add_header Vary Origin always;
                        }
                    }
                }
            """,
        ),
    ),
    Cause(
        id=CauseId("origin-403"),
        hop="proxy",
        severity="down",
        symptom="403 on writes from MLflow's own pages, while clients can write",
        what="the proxy forwards Origin, and MLflow does not know the public origin of its own pages",
        remedy="list the public origin in --cors-allowed-origins, or remove Origin from forwarded requests",
        shows=on_routes(_own_origin),
        reddens=(r"test_ui\.py::test_write_of_page",),
        fixes=snippets(
            envoy="""
                routes:
                  - match: { prefix: /mlflow/ }
                    route: { cluster: mlflow, prefix_rewrite: /, timeout: 0s }
                    request_headers_to_remove: [ origin ]
            """,
            nginx="""
                location /mlflow/ {
                    proxy_set_header Origin "";
                }
            """,
        ),
    ),
    Cause(
        id=CauseId("keep-alive-off"),
        hop="proxy",
        severity="hardening",
        symptom="every call is slow to start",
        what="the proxy closes the connection after each answer",
        remedy="let clients keep their connections open",
        shows=connection_closed.at("proxy"),
        reddens=(*OPEN_CONNECTIONS,),
        fixes=KEEP_ALIVE,
    ),
)
