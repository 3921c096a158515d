"""Prefixes that are stripped wrongly, loops, and paths that are changed on the way."""

from __future__ import annotations

import re
from dataclasses import replace
from urllib.parse import urlsplit

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import ALL, ENDPOINTS, OTLP
from mlflow_proxy_e2e.causes.snippets import AS_SENT, BY_NAME, NORMALIZED, snippets
from mlflow_proxy_e2e.facts.comparisons import by_mlflow, in_sandbox, lacks, unless
from mlflow_proxy_e2e.facts.facts import EDGE_ROUTE, READ, Facts
from mlflow_proxy_e2e.facts.outage import fails_at_once, only_without_logs, waited_in_vain, with_logs
from mlflow_proxy_e2e.facts.question import Reply
from mlflow_proxy_e2e.facts.refused import refused_like_nobody
from mlflow_proxy_e2e.facts.sandbox import SPANS, Sandbox, get
from mlflow_proxy_e2e.facts.sign import NO, Reading, Shows, Sign, holds, needing, on_routes
from mlflow_proxy_e2e.facts.stopped import (
    Stopped,
    at_edge,
    logged,
    start_page,
    status,
    stopped,
    stops,
    unrouted_path,
)
from mlflow_proxy_e2e.target import Route
from mlflow_proxy_e2e.wire import Request

LOOP = "508, or a timeout, on every call"


# The part that a mount at an API path may have cut off: sending it twice makes the path whole again.
CUT_OFF = ("/api", "/api/2.0", "/api/2.0/mlflow")
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
NAMES = {"slash-decode": "x%5Cy", "path-lowercased": "xYz", "path-cut-at-semicolon": "x;y"}  # of artifacts, as they are sent


def _path_at_mlflow(facts: Facts) -> str | None:
    """Return the path with which a read reached MLflow, by MLflow's own log, or None without a log."""
    seen = stopped(facts)
    if not facts.has_logs or not seen:
        return None
    mark = facts.token()
    facts.ask(seen.route, READ.marked(mark))
    lines = (line.line for line in facts.lines(mark) if line.hop.startswith("mlflow"))
    return next((found[1] for line in lines if (found := re.search(r"GET ([^? ]+)", line))), None)


def _made_whole(facts: Facts) -> list[Reply]:
    seen = stopped(facts)
    return [facts.ask(seen.route, Request("GET", cut + READ.path)) for cut in CUT_OFF] if seen else []


def is_cut(facts: Facts, _: Stopped) -> bool | None:
    """Tell whether more than the prefix was stripped: sending that part twice works, or MLflow's log has a shorter path."""
    if any(reply.works for reply in facts.once(_made_whole)):
        return True
    if path := facts.once(_path_at_mlflow):
        return len(path) < len(READ.path.partition("?")[0])
    return None if any(reply.status in facts.refusals for reply in facts.once(_made_whole)) else False


def _is_whole(facts: Facts, _: Stopped) -> bool | None:
    """Tell whether the prefix was not stripped."""
    if any(reply.works for reply in facts.once(_made_whole)):
        return False
    if path := facts.once(_path_at_mlflow):
        return len(path) >= len(READ.path.partition("?")[0])
    return None if facts.direct is None or any(reply.status in facts.refusals for reply in facts.once(_made_whole)) else True


def _is_seen_at_edge(facts: Facts, seen: Stopped) -> bool | None:
    """Tell whether a looping call comes back through the edge. UNKNOWN without logs."""
    if not facts.said(seen.reply, "proxy", "path"):
        return None
    return seen.route.name != EDGE_ROUTE and bool(facts.said(seen.reply, "edge", "path"))


def _goes_round(facts: Facts, seen: Stopped) -> bool:
    return seen.by_every_carrier and seen.status in (401, facts.target.contract.unauthenticated) and not seen.at_edge


def _proxy_health(facts: Facts) -> Reading:
    """The proxy's own health path, which answers without a key."""
    asked = facts.ask_hop("proxy")
    return Reading(Shows.YES, (asked,), ("proxy",)) if asked and asked.status not in (None, 200) else NO


def _stored_elsewhere(cause: str) -> Sign:
    """Return the sign that an artifact is not stored under the name that was sent."""

    def wrong(facts: Facts, route: Route, own: Sandbox) -> Reply | None:
        file = f"{own.artifacts}/{route}/{cause}/{NAMES[cause]}"
        upload, held = facts.ask(route, Request("PUT", file, body=b"x")), facts.ask_directly(Request("GET", file))
        return upload if upload.status == 200 and held and held.status not in (None, 200) else None

    return needing("artifacts") & in_sandbox(wrong)


def _ends_in_slash(facts: Facts, seen: Stopped) -> bool:
    """Tell whether MLflow got a path with a trailing slash: it accepts one in artifact paths, and repeats it in its message."""
    artifact = facts.ask(seen.route, Request("GET", f"{ARTIFACTS}/no-such"))
    return bool(artifact.error_code) and "no-such/" in str(artifact.json()["message"])


def _unknown_spans(facts: Facts, route: Route) -> Reply | None:
    """Return MLflow's own 404 to spans: of its two web frameworks, the one that takes them does not match paths with //."""
    reply, direct = facts.ask(route, SPANS), facts.ask_directly(SPANS)
    return reply if by_mlflow(reply) and not (direct and direct.status == 404) else None


def _begins_with_two_slashes(facts: Facts) -> bool | None:
    """Tell whether MLflow gets paths that begin with //: its log has them, or a path sent without its first slash works."""
    route = facts.open_routes[0]
    if facts.has_logs:
        mark = facts.token()
        facts.ask(route, READ.marked(mark))
        return any(" //" in line.line for line in facts.lines(mark) if line.hop.startswith("mlflow"))
    if urlsplit(route.url).path.strip("/"):
        glued = facts.ask(route, replace(SPANS, path=SPANS.path.removeprefix("/")))
        if glued.status in (400, 422) and b'"detail"' in glued.body:
            return True
    return None if facts.direct else False


loop = status(508)
looks_like_loop = (fails_at_once & only_without_logs) | waited_in_vain
unknown_to_mlflow = unrouted_path & stops(lambda _, seen: by_mlflow(seen.reply) and not by_mlflow(seen.nobody))
slash_appended = unknown_to_mlflow & stops(_ends_in_slash)
wrong_path = unknown_to_mlflow & ~slash_appended
UNNAMED = (("no rule covers the path", unrouted_path & ~at_edge & stops(lambda _, seen: not by_mlflow(seen.reply))),)


CAUSES = (
    Cause(
        id=CauseId("strip-none"),
        hop="proxy",
        severity="down",
        symptom="404 in MLflow's HTML on every call",
        what="the proxy forwards the public prefix to an MLflow that does not know it",
        remedy="strip the prefix, or start MLflow with --static-prefix",
        shows=wrong_path & stops(_is_whole),
        reddens=(ALL,),
        fixes=AS_SENT,
    ),
    Cause(
        id=CauseId("strip-twice"),
        hop="proxy",
        severity="down",
        symptom="404 in MLflow's HTML on every call",
        what="the proxy strips more than its prefix: MLflow gets a path without its first segment",
        remedy="strip only the prefix",
        shows=wrong_path & stops(is_cut),
        reddens=(ALL,),
        fixes=AS_SENT,
    ),
    Cause(
        id=CauseId("path-lost"),
        hop="proxy",
        severity="down",
        symptom="every call is answered with MLflow's start page, and the client complains that it is not JSON",
        what="the proxy forwards every call to /, as with a rewrite that loses the rest of the path",
        remedy="keep the rest of the path in the rewrite",
        shows=start_page,
        reddens=(ALL,),
        fixes=AS_SENT,
    ),
    Cause(
        id=CauseId("slash-appended"),
        hop="proxy",
        severity="down",
        symptom="404 with MLflow's HTML on every API call, while its start page is shown",
        what="the proxy appends a slash to paths, but MLflow's paths have no trailing slash",
        remedy="forward the path unchanged",
        shows=slash_appended,
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("double-slash"),
        hop="proxy",
        severity="down",
        symptom="404 with MLflow's HTML on traces sent by OpenTelemetry, while MLflow's API works",
        what="the proxy replaces its prefix with a slash and keeps the slash after it, so that paths begin with two",
        remedy="replace the prefix and the slash after it with a single slash",
        shows=needing("otlp", scope="write") & on_routes(_unknown_spans) & holds(_begins_with_two_slashes),
        explains=tuple(map(CauseId, ("compressed-refused", "native-routes-missing", "http10-downgrade"))),
        reddens=(
            OTLP,
            r"test_fidelity_(requests\.py::test_header_value|transfer\.py::test_coded_request)",
            r"test_ui\.py::test_search_jobs|test_gateway\.py",
            r"test_chunked_upload|test_odd_upload\[.*(chunk|trailers)",  # the same framework takes them
            ENDPOINTS,
        ),
        fixes=AS_SENT,
    ),
    Cause(
        id=CauseId("proxy-loop"),
        hop="proxy",
        severity="down",
        symptom=LOOP,
        what="the proxy's upstream is the proxy itself",
        remedy="use MLflow's service-discovery name as the upstream",
        shows=(loop & ~stops(_is_seen_at_edge)) | looks_like_loop,
        reddens=(ALL,),
        fixes=BY_NAME,
    ),
    Cause(
        id=CauseId("loop-through-edge"),
        hop="proxy",
        severity="down",
        symptom=LOOP,
        what="the proxy's upstream is the public URL, which leads back to the proxy",
        remedy="use MLflow's service-discovery name as the upstream",
        shows=(loop & stops(_is_seen_at_edge)) | looks_like_loop,
        reddens=(ALL,),
        fixes=BY_NAME,
    ),
    Cause(
        id=CauseId("loop-unnoticed"),
        hop="proxy",
        severity="down",
        symptom="401 on every call with a good key",
        what="the proxy's upstream is the proxy itself, and the key is already removed when the request comes back",
        remedy="use MLflow's service-discovery name as the upstream, and answer 508 to requests that come back",
        shows=(with_logs & stops(_goes_round) & logged("proxy", "path", lambda said: len(said) > 1)) | refused_like_nobody,
        reddens=(ALL,),
        fixes=snippets(
            envoy="""
                routes: # these two first
                  - match: { prefix: /, headers: [ { name: x-mlflow-proxy-hop, present_match: true } ] }
                    direct_response: { status: 508 }
                    typed_per_filter_config: # the key is already removed
                      envoy.filters.http.ext_authz:
                        "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute
                        disabled: true
                  - match: { prefix: /mlflow/ }
                    route: { cluster: mlflow, prefix_rewrite: /, timeout: 0s }
                    request_headers_to_add: [ { header: { key: x-mlflow-proxy-hop, value: "1" } } ]
            """,
            nginx="""
                server {
                    if ($http_x_mlflow_proxy_hop) {
                        return 508;
                    }
                    location /mlflow/ {
                        proxy_set_header X-MLflow-Proxy-Hop 1;
                    }
                }
            """,
        ),
    ),
    Cause(
        id=CauseId("health-shadowed"),
        hop="proxy",
        severity="contract",
        symptom="404 on the proxy's own /health, so that monitoring reports it as down",
        what="a rule for all paths comes before the one for /health and sends it to MLflow",
        remedy="put the rule for /health first",
        shows=Sign(_proxy_health),
        reddens=(r"test_health\.py::test_health\[proxy",),
        fixes=snippets(
            envoy="""
                routes:
                  - match: { path: /health } # before the rules with a prefix: the first that matches counts
                    direct_response: { status: 200, body: { inline_string: '{"status":"ok"}' } }
                    typed_per_filter_config: # no key is needed
                      envoy.filters.http.ext_authz:
                        "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute
                        disabled: true
            """,
            nginx="""
                location = /health { # "=" comes before every other location
                    return 200 '{"status":"ok"}';
                }
            """,
        ),
    ),
    Cause(
        id=CauseId("percent-decoded-twice"),
        hop="proxy",
        severity="loss",
        symptom="names with a percent sign arrive changed",
        what="the proxy decodes the path once more often than it encodes it",
        remedy="forward the path unchanged",
        shows=on_routes(unless(get("experiments/get-by-name?experiment_name=no-such-x%2541"), lacks("no-such-xA"))),
        reddens=(
            r"test_fidelity_names\.py",
            r"test_fidelity_requests\.py::test_(query\[.*percent|any_query|query_in_log|text_in_query)",
            r"test_experiments\.py::test_get_experiment",
            r"\[.*-percent",
        ),
        fixes=snippets(nginx=AS_SENT["nginx"]),
    ),
    Cause(
        id=CauseId("slash-decode"),
        hop="proxy",
        severity="loss",
        symptom="artifacts with an escaped slash in their name end up in a folder",
        what="the proxy decodes %2F in paths",
        remedy="forward escaped slashes unchanged",
        shows=_stored_elsewhere("slash-decode"),
        reddens=(
            r"test_artifact_names",
            r"test_names_in_headers",
            r"test_bypass_paths\.py.*encoded-slashes",
            r"tag_of_any_key\[.*delimiters",
        ),
        fixes=snippets(envoy=NORMALIZED["Envoy"], nginx=AS_SENT["nginx"]),
    ),
    Cause(
        id=CauseId("path-lowercased"),
        hop="proxy",
        severity="loss",
        symptom="artifacts with capital letters in their name cannot be found",
        what="the proxy converts paths to lower case",
        remedy="forward the path unchanged",
        shows=_stored_elsewhere("path-lowercased"),
        reddens=(
            r"test_(artifacts|logged_model_artifacts|model_registration|ui_artifacts)\.py::test_(?!name|unknown|refused)",
            r"test_fidelity_names\.py|test_fidelity_requests\.py::test_(any_query|query_in_log|text_in_query)",
            r"test_metrics\.py::test_metric_history\[|test_traces\.py::test_(search|page)|test_smoke\.py::test_\w+_model",
            r"test_registered_models\.py::test_(page|model_name_is_kept\[.*-percent)",
            ENDPOINTS,
        ),
    ),
    Cause(
        id=CauseId("path-cut-at-semicolon"),
        hop="proxy",
        severity="loss",
        symptom="artifact names are cut off at a semicolon",
        what="the proxy treats everything after a semicolon as path parameters and drops it",
        remedy="forward the path unchanged",
        shows=_stored_elsewhere("path-cut-at-semicolon"),
        reddens=(
            r"test_artifact_names",
            r"test_names_in_headers",
            r"semicolon",
            r"test_fidelity_requests\.py::test_(any_query|query_in_log|text_in_query)",
            r"test_bypass_paths\.py.*-parameters",
        ),
    ),
)
