"""Systems that differ from ours and are correct."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fixtures.faults.auth.decisions import decide_by_method, decide_otherwise
from fixtures.faults.catalogue import FAULTS
from fixtures.faults.proxy.access import let_through
from fixtures.faults.proxy.bodies import gzip
from fixtures.faults.proxy.changes import add_filter, change_routes
from fixtures.faults.proxy.headers import keep_origin
from fixtures.faults.suite import E2E, EVERY, HEADERS, PATHS, TRANSFER, VERBS
from fixtures.faults.system import Configuration, System, script_first
from fixtures.services import envoy
from mlflow_proxy_e2e.target import Carrier, Policy, Target

OTHER_PREFIX = "/registry/v2"
OTHER_WORDS = """
function envoy_on_response(handle)
  local status = handle:headers():get(":status")
  if status == "401" then
    handle:body(true):setBytes('{"error_code": "UNAUTHENTICATED", "message": "Who are you?", "request_id": "4f1c"}')
    handle:headers():replace("www-authenticate", "Bearer")
  end
end
"""
OTHER_CARRIERS = """
function envoy_on_request(handle)
  local headers = handle:headers()
  local key = string.match(headers:get("authorization") or "", "^ApiKey (.*)") or headers:get("x-custom-key")
  headers:remove("authorization")
  headers:remove("x-api-key")
  headers:remove("x-custom-key")
  if key then
    headers:add("x-api-key", key)
  end
end
"""
NOTHING_THERE = """
function envoy_on_response(handle)
  local headers = handle:headers()
  if headers:get(":status") == "403" then
    headers:replace(":status", "404")
    handle:body(true):setBytes('{"detail":"Not Found"}')
  end
end
"""
HEADERS_OF_OTHERS = """
function envoy_on_response(handle)
  local headers = handle:headers()
  headers:replace("server", "nginx/1.27.3")
  headers:add("via", "1.1 some-gateway")
  headers:add("strict-transport-security", "max-age=31536000")
  headers:add("x-amzn-trace-id", "Root=1-" .. math.random(1000000000))
end
"""
HTTP2 = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
}
OWN_NAME = r"(localhost|127\.0\.0\.1)(:\d+)?"
OTHER_NAME = {"name": ":authority", "string_match": {"safe_regex": {"regex": OWN_NAME}}, "invert_match": True}
PAGE = {"direct_response": {"status": 200, "body": {"inline_string": "<!doctype html><h1>Welcome</h1>"}}}
LOGIN = {"redirect": {"host_redirect": "login.example.com", "response_code": "FOUND"}}
BUFFER = {"@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer", "max_request_bytes": 2**30}
DELAY = {
    "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
    "delay": {"fixed_delay": "0.05s", "percentage": {"numerator": 100}},
}


FRAMING = f"{E2E}/test_bypass_framing.py"
OPTIONS = (
    f"{E2E}/test_denials.py::test_denied_options",
    f"{FRAMING}::test_odd_method_without_key",
    f"{FRAMING}::test_upgrade_without_key[external-websocket]",
    f"{VERBS}[external-other]",
)
CLIENT_RAISES = (f"{E2E}/test_denials.py::test_client_raises_denied_read",)
COMPRESSIBLE = (
    *(f"{TRANSFER}::test_{what}" for what in ("coded_answer", "conditional_request", "head", "range")),
    f"{E2E}/test_ui.py",
)
POLICY = (
    *(f"{EVERY}[external-{area}]" for area in ("api-2.0", "ajax-api-3.0")),
    *(f"{HEADERS}::test_path_in_header_of_denied_write", f"{HEADERS}::test_method_in_header_of_denied_write"),
    *(f"{E2E}/test_denials.py::test_denied_get_that_acts", f"{E2E}/test_runs.py", f"{E2E}/test_fidelity_requests.py"),
)
VERSION = "/version"
TELEMETRY = "POST /ajax-api/3.0/mlflow/ui-telemetry"
ASSISTANT = "GET /ajax-api/3.0/mlflow/assistant/providers/*/health"
SEARCH_OF_RUNS = "POST /api/2.0/mlflow/runs/search"
NOT_FOR_MLFLOW = (
    *(f"{HEADERS}::test_host_without_key", f"{HEADERS}::test_host_of_denied_write", f"{HEADERS}::test_path_in_header_without_key"),
    *(f"{PATHS}::test_odd_path_without_key", f"{PATHS}::test_odd_path_of_permitted_read"),
    *(f"{FRAMING}::test_upgrade_without_key", f"{FRAMING}::test_odd_request_line_without_key"),
)


@dataclass(frozen=True)
class Variation:
    """A change of the system, and of what is known about it, that leaves it correct.

    Args:
        tests: the tests that the change may affect, besides those that every correct system must pass.
    """

    change: Callable[[System], None] = lambda _: None
    retarget: Callable[[Target], Target] = lambda target: target
    tests: tuple[str, ...] = ()


def edge(edit: Callable[[Configuration], None]) -> Callable[[System], None]:
    """Return the change of the edge's configuration."""
    return lambda system: system.reconfigure("edge", edit)


def proxy(edit: Callable[[Configuration], None]) -> Callable[[System], None]:
    """Return the change of the proxy's configuration."""
    return lambda system: system.reconfigure("proxy", edit)


def _other_prefix(configuration: Configuration) -> None:
    for route in envoy.routes(configuration):
        for kind in ("prefix", "path"):
            if route["match"].get(kind, "").startswith("/api/mlflow"):
                route["match"][kind] = route["match"][kind].replace("/api/mlflow", OTHER_PREFIX)


def _without_tls(configuration: Configuration) -> None:
    configuration["static_resources"]["listeners"][0]["filter_chains"][0].pop("transport_socket")


def _http2_to_proxy(configuration: Configuration) -> None:
    configuration["static_resources"]["clusters"][0]["typed_extension_protocol_options"] = HTTP2


def _with_filter(name: str, settings: Mapping[str, Any]) -> Callable[[Configuration], None]:
    return lambda configuration: envoy.add_filter(configuration, name, dict(settings), first=True)


def _connects_again(configuration: Configuration) -> None:
    for route in envoy.routes(configuration):
        if "route" in route:
            route["route"]["retry_policy"] = {"retry_on": "connect-failure,refused-stream", "num_retries": 2}


def _tells_others(of_other_name: Configuration, of_other_path: Configuration) -> Callable[[System], None]:
    """Return the change that makes the edge give another answer to other hosts and other paths."""

    def edit(configuration: Configuration) -> None:
        rules = envoy.routes(configuration)
        rules[-1:] = [{"match": {"prefix": "/"}, **of_other_path}]
        rules.insert(0, {"match": {"prefix": "/", "headers": [OTHER_NAME]}, **of_other_name})

    return edge(edit)


def _refuse_old_http(configuration: Configuration) -> None:
    envoy.connection_manager(configuration)["http_protocol_options"]["accept_http_10"] = False


def _external_url(change: Callable[[str], str]) -> Callable[[Target], Target]:
    def retarget(target: Target) -> Target:
        routes = (replace(r, url=change(r.url)) if r.name == "external" else r for r in target.routes)
        return replace(target, routes=tuple(routes))

    return retarget


def _expecting(**expect: Any) -> Callable[[Target], Target]:
    return lambda target: replace(target, contract=replace(target.contract, **expect))


def _with_policy(policy: Policy) -> Callable[[Target], Target]:
    return lambda target: replace(target, policy=policy)


def _with_open_path(path: str) -> Callable[[Target], Target]:
    policy = Policy(overrides=((f"GET {path}", "open"),))
    return lambda target: replace(target, contract=replace(target.contract, open_paths=(path,)), policy=policy)


def _with_carriers(*carriers: Carrier) -> Callable[[Target], Target]:
    def retarget(target: Target) -> Target:
        identities = tuple(replace(identity, carrier=carriers[0]) for identity in target.identities)
        return replace(target, carriers=carriers, identities=identities)

    return retarget


def as_deployed(target: Target) -> Target:
    """Return the target as a profile describes it: no logs, no access to keys, no direct route to MLflow."""
    return replace(target, hops=(), keys=None, direct=None)


def with_one_route(target: Target) -> Target:
    """Return the target with its external URL alone."""
    return replace(target, routes=(target.route("external"),))


VARIATIONS: Mapping[str, Variation] = {
    "as-it-is": Variation(),
    "as-deployed": Variation(script_first(HEADERS_OF_OTHERS), as_deployed, (f"{EVERY}[external-other]",)),
    "bearer-only": Variation(FAULTS["carrier-ignored"].inject, lambda target: replace(target, carriers=("bearer",))),
    "buffering": Variation(proxy(_with_filter("envoy.filters.http.buffer", BUFFER))),
    "compresses": Variation(add_filter("compressor", **gzip("compressor")), tests=COMPRESSIBLE),
    "connects-again": Variation(proxy(_connects_again)),
    "external-only": Variation(retarget=lambda target: with_one_route(as_deployed(target))),
    "forbidden-as-404": Variation(
        script_first(NOTHING_THERE),
        _expecting(forbidden=404, errors="any"),
        (f"{E2E}/test_denials.py", *(f"{EVERY}[external-{area}]" for area in ("api-2.0", "other")), f"{VERBS}[external-other]"),
    ),
    "foreign-origin-forwarded": Variation(change_routes(keep_origin), tests=(f"{E2E}/test_ui.py::test_write_of_page",)),
    "headers-of-others": Variation(script_first(HEADERS_OF_OTHERS)),
    "http-only": Variation(edge(_without_tls), _external_url(lambda url: url.replace("https:", "http:"))),
    "http2-between-hops": Variation(edge(_http2_to_proxy)),
    "internal-only": Variation(retarget=lambda target: replace(target, routes=(target.route("internal"),))),
    "method-policy": Variation(decide_by_method, _with_policy(Policy("method")), POLICY),
    "old-http-refused": Variation(edge(_refuse_old_http), tests=(f"{E2E}/test_fidelity_connections.py::test_last_request",)),
    "open-path": Variation(
        let_through({"path": f"/mlflow{VERSION}"}),
        _with_open_path(VERSION),
        (
            *(f"{E2E}/test_secrets.py::test_open_path", f"{EVERY}[external-other]", f"{VERBS}[external-other]"),
            *(f"{PATHS}::test_odd_path_without_key", f"{HEADERS}::test_path_in_header_without_key"),
        ),
    ),
    "other-carriers": Variation(
        script_first(OTHER_CARRIERS),
        _with_carriers("apikey", "X-Custom-Key"),
        (f"{E2E}/test_bypass_keys.py", f"{E2E}/test_denials.py::test_denied_read", f"{EVERY}[external-other]"),
    ),
    "other-prefix": Variation(edge(_other_prefix), _external_url(lambda url: url.replace("/api/mlflow", OTHER_PREFIX))),
    "other-words": Variation(script_first(OTHER_WORDS)),
    "own-scopes": Variation(
        decide_otherwise(f"write {TELEMETRY}", f"read {ASSISTANT}", f"write {SEARCH_OF_RUNS}"),
        _with_policy(Policy(overrides=((TELEMETRY, "write"), (ASSISTANT, "read"), (SEARCH_OF_RUNS, "write")))),
        POLICY,
    ),
    "pages-beside": Variation(_tells_others(PAGE, PAGE), as_deployed, NOT_FOR_MLFLOW),
    "preflight-open": Variation(FAULTS["options-for-all"].inject, _expecting(preflight="open"), OPTIONS),
    "redirects-beside": Variation(_tells_others({"redirect": {"https_redirect": True}}, LOGIN), as_deployed, NOT_FOR_MLFLOW),
    "refusals-in-other-shape": Variation(FAULTS["denial-in-other-shape"].inject, _expecting(errors="any"), CLIENT_RAISES),
    "slow": Variation(proxy(_with_filter("envoy.filters.http.fault", DELAY))),
}
