"""Requests that a firewall refuses because of what they look like: their text, type, size, names or sender.

Each sign compares a call with another that differs in one thing only, so that a refusal must be about the difference. A firewall
at the proxy shows in the same way: the routes on which calls are refused tell where it is.
"""

from __future__ import annotations

from dataclasses import replace

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import ARTIFACTS, CONVERSATIONS, ENDPOINTS, LARGE_UPLOADS, OTLP, external
from mlflow_proxy_e2e.causes.snippets import LONG_HEADERS, NORMALIZED, TO_PROXY, snippets
from mlflow_proxy_e2e.facts.comparisons import (
    first_turned_away,
    in_sandbox,
    limited,
    passes,
    unless,
    unrouted,
)
from mlflow_proxy_e2e.facts.facts import READ, Facts
from mlflow_proxy_e2e.facts.question import Reply
from mlflow_proxy_e2e.facts.refused import is_forbidden
from mlflow_proxy_e2e.facts.sandbox import BODY_BYTES, GRAPHQL, Sandbox, get, padded_search, post
from mlflow_proxy_e2e.facts.sign import needing, on_routes
from mlflow_proxy_e2e.facts.stopped import Stopped, stops
from mlflow_proxy_e2e.target import Route
from mlflow_proxy_e2e.wire import Request

ANY_EXPERIMENT = post("experiments/search", {"max_results": 1})
# An ordinary filter, and texts that firewalls take for SQL injection, cross-site scripting and path traversal.
TEXTS = ("x' OR 1=1; DROP TABLE runs --", "<script>alert(1)</script>", "../../etc/passwd")
FILTERS = ("name = 'x'", *(f'name = "{text}"' for text in TEXTS))
SEARCHES = tuple(post("experiments/search", {"filter": each, "max_results": 1}) for each in FILTERS)
QUERY = get("experiments/search?max_results=1&filter=name%20LIKE%20%27%25select%25%27")
TYPES = ("text/plain", "application/octet-stream", "application/x-protobuf")  # of files, and of OpenTelemetry's spans
FOLDER = "/api/2.0/mlflow-artifacts/artifacts/no-such-folder"
ENDINGS = (".log", ".db", ".conf", ".key", ".bak")
ENCODED = ("%2F", "%25", "%3B")
HEADER_BYTES = (1 << 10, 1 << 11, 1 << 12, 7000)  # most servers accept headers of up to 8 kB, name included
CLIENTS = ("mlflow-python-client/3.17.2", "python-requests/2.32.5")  # as they identify themselves
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
# Tests that send exact bytes, without MLflow's client or requests.
BY_WIRE = r"test_(bypass_\w+|duplicate_writes|every_endpoint|fidelity_\w+|health|key_lifetime|same_answers|secrets|slow_calls)\.py"


def _file(name: str) -> Request:
    """Return the download of a file that does not exist, which MLflow itself answers with an error."""
    return Request("GET", f"{FOLDER}/{name}")


def _with_long_header(size: int) -> Request:
    return replace(READ, headers=(("X-Some", "x" * size),))


def _by(agent: str) -> Request:
    return replace(READ, headers=(("User-Agent", agent),))


def _typed_upload(facts: Facts, route: Route, own: Sandbox) -> Reply | None:
    def upload(type_: str) -> Request:
        return replace(own.plain_file(route), headers=(("Content-Type", type_),))

    return first_turned_away(upload("application/json"), *map(upload, TYPES))(facts, route)


def _is_let_in_as_browser(facts: Facts, seen: Stopped) -> bool:
    """Tell whether a good key that is forbidden every call gets through when its caller looks like a browser."""
    return is_forbidden(facts, seen) and facts.ask(seen.route, _by(BROWSER)).works


def _takes_header(reply: Reply) -> bool:
    return passes(reply) and reply.status not in (413, 431, 494)


# Everything else is inspected as before.
EXEMPT = snippets(
    aws="""
        # a statement of the AWS::WAFv2::WebACL; likewise for the other groups of managed rules
        ManagedRuleGroupStatement:
          VendorName: AWS
          Name: AWSManagedRulesCommonRuleSet
          ScopeDownStatement:
            NotStatement:
              Statement:
                ByteMatchStatement:
                  FieldToMatch: { UriPath: {} }
                  PositionalConstraint: STARTS_WITH
                  SearchString: /api/mlflow/
                  TextTransformations: [ { Priority: 0, Type: NORMALIZE_PATH } ]
    """
)

CAUSES = (
    Cause(
        id=CauseId("waf-blocks"),
        hop="edge",
        severity="down",
        symptom="403 with an HTML page on searches with a filter, or on notes and parameters with markup, while other calls work",
        what="a web application firewall mistakes text for attacks: MLflow's filters for SQL injection, markup for scripting",
        remedy="exempt MLflow's API from the rules that inspect bodies and queries",
        shows=on_routes(first_turned_away(ANY_EXPERIMENT, *SEARCHES)).noting(lambda request: f"sent: {request.body.decode()}")
        | on_routes(first_turned_away(READ, QUERY)),
        reddens=(external(r"::test_(search|page)_", CONVERSATIONS, r"test_fidelity_(names|json)\.py", r"like_an_attack"),),
        fixes=EXEMPT,
    ),
    Cause(
        id=CauseId("waf-body-size"),
        hop="edge",
        severity="down",
        symptom="403 with an HTML page on uploads and on batches of parameters, while small calls work",
        what="a web application firewall refuses bodies that are too large for it to inspect",
        remedy="exempt MLflow's API and artifact paths from that rule",
        explains=(CauseId("trace-size-limit"),),
        shows=limited(padded_search, BODY_BYTES),
        reddens=(external(*LARGE_UPLOADS, r"_large(st)?_(batch|trace)", r"test_multipart_upload\.py"),),
        fixes=snippets(
            aws="""
                # a statement of the AWS::WAFv2::WebACL
                ManagedRuleGroupStatement:
                  VendorName: AWS
                  Name: AWSManagedRulesCommonRuleSet
                  RuleActionOverrides:
                    - { Name: SizeRestrictions_BODY, ActionToUse: { Count: {} } }
            """
        ),
    ),
    Cause(
        id=CauseId("waf-content-type"),
        hop="edge",
        severity="down",
        symptom="403 on file uploads or traces, while calls with JSON work",
        what="a web application firewall refuses content types that MLflow's clients send",
        remedy="allow every content type, or at least application/octet-stream, application/x-protobuf and text/*",
        shows=(needing("artifacts", scope="write") & in_sandbox(_typed_upload)).noting(
            lambda request: f"sent with Content-Type: {request.header('Content-Type')}"
        ),
        reddens=(external(ARTIFACTS, OTLP, r"test_\w*(trace|record|model)"),),
        fixes=EXEMPT,
    ),
    Cause(
        id=CauseId("waf-file-ending"),
        hop="edge",
        severity="down",
        symptom="403 on artifacts with names such as train.log or model.bak, while others work",
        what="a web application firewall refuses paths with the extensions of logs, backups or secrets",
        remedy="exempt MLflow's artifact paths from that rule",
        shows=needing("artifacts") & on_routes(first_turned_away(_file("x.txt"), *(_file(f"x{ending}") for ending in ENDINGS))),
        reddens=(external(r"test_smoke\.py::test_upload_artifacts"),),
        fixes=snippets(
            aws="""
                # a statement of the AWS::WAFv2::WebACL
                ManagedRuleGroupStatement:
                  VendorName: AWS
                  Name: AWSManagedRulesCommonRuleSet
                  RuleActionOverrides:
                    - { Name: RestrictedExtensions_URIPATH, ActionToUse: { Count: {} } }
                    - { Name: RestrictedExtensions_QUERYARGUMENTS, ActionToUse: { Count: {} } } # /get-artifact?path=…
            """
        ),
    ),
    Cause(
        id=CauseId("waf-user-agent"),
        hop="edge",
        severity="down",
        symptom="403 for MLflow's client or for scripts, while browsers and curl get through",
        what="a web application firewall refuses callers by their User-Agent",
        remedy="exempt the public prefix from that rule: MLflow's callers are programs, and the proxy checks their keys",
        shows=(on_routes(first_turned_away(READ, *map(_by, CLIENTS))) | stops(_is_let_in_as_browser)).noting(
            lambda request: f"sent with User-Agent: {request.header('User-Agent') or 'that of this suite'}"
        ),
        reddens=(external(rf"^(?!.*{BY_WIRE})."),),
        fixes=snippets(
            aws="""
                # a statement of the AWS::WAFv2::WebACL
                ManagedRuleGroupStatement:
                  VendorName: AWS
                  Name: AWSManagedRulesBotControlRuleSet
                  ManagedRuleGroupConfigs: [ { AWSManagedRulesBotControlRuleSet: { InspectionLevel: COMMON } } ]
                  RuleActionOverrides:
                    - { Name: CategoryHttpLibrary, ActionToUse: { Count: {} } }
                    - { Name: SignalNonBrowserUserAgent, ActionToUse: { Count: {} } }
            """
        ),
    ),
    Cause(
        id=CauseId("graphql-blocked"),
        hop="edge",
        severity="down",
        symptom="403 or 404 on the queries of MLflow's pages, so that they show nothing about a run",
        what="/graphql is blocked, as firewalls do for applications without GraphQL",
        remedy="forward /graphql like every other path below the prefix: the proxy checks the key",
        shows=needing("graphql") & (on_routes(unless(GRAPHQL, passes)) | on_routes(unrouted(GRAPHQL))),
        reddens=(external(r"test_graphql\.py", r"-query-graphql", rf"{ENDPOINTS}.*-pages"),),
        fixes=TO_PROXY,
    ),
    Cause(
        id=CauseId("encoded-path-refused"),
        hop="edge",
        severity="down",
        symptom="400 on artifacts whose names contain a slash, a percent sign or a semicolon",
        what="escaped characters in paths are refused",
        remedy="allow escaped characters in paths, and forward them unchanged",
        shows=needing("artifacts") & on_routes(first_turned_away(_file("xy"), *(_file(f"x{code}y") for code in ENCODED))),
        reddens=(
            external(
                r"test_fidelity_names\.py::test_artifact_(names|in_folder\[.*%)",
                r"test_artifacts\.py::test_name\[.*percent",
                r"test_names_in_headers",
            ),
        ),
        fixes=NORMALIZED,
    ),
    Cause(
        id=CauseId("header-size-limit"),
        hop="edge",
        severity="down",
        symptom="431 when a client sends a long header, such as a token or a cookie",
        what="a hop limits each header to less than the 8 kB that most servers accept",
        remedy="allow at least 8 kB per header",
        shows=limited(_with_long_header, HEADER_BYTES, _takes_header),
        reddens=(external(r"test_fidelity_requests\.py::test_(header_value|long_header)"),),
        fixes=LONG_HEADERS,
    ),
)
