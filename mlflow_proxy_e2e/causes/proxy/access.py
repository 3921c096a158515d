"""Open doors: requests that reach MLflow although no key was checked, or not for the call that is made."""

from __future__ import annotations

import http.client
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import ALL, DENIALS, ENDPOINTS, KEY_LIFETIME, ODD_KEYS, WITHOUT_KEY
from mlflow_proxy_e2e.causes.snippets import AS_SENT, ASK, NORMALIZED, snippets
from mlflow_proxy_e2e.errors import RequestLimitError
from mlflow_proxy_e2e.facts.admission import (
    accepted_by_proxy,
    auth_is_ill,
    is_kept_for_others,
    is_open_in_part,
    is_open_to_everybody,
    let_write_as,
    open_gate,
    readers,
    wholly_open,
)
from mlflow_proxy_e2e.facts.comparisons import Test, by_mlflow
from mlflow_proxy_e2e.facts.facts import READ, Facts
from mlflow_proxy_e2e.facts.outage import opinion
from mlflow_proxy_e2e.facts.question import Question, Reply
from mlflow_proxy_e2e.facts.refused import forbidden_in_contract_words
from mlflow_proxy_e2e.facts.sandbox import GRAPHQL, HARMLESS_WRITE, NO_SUCH_RUN
from mlflow_proxy_e2e.facts.sign import NO, Reading, Shows, Sign, holds, on_each_route, shared
from mlflow_proxy_e2e.facts.stopped import stops, unrouted_path
from mlflow_proxy_e2e.target import Route, key_headers
from mlflow_proxy_e2e.wire import JSON, Request, Wire

CHECK_EVERY_PATH = "require a key on every path"
CHECK_EVERY_METHOD = "require a key for every method"
# A proxy that accepts keys that were never issued also accepts revoked, expired and altered ones.
OF_ANY_KEY = tuple(map(CauseId, ("revocation-ignored", "revocation-lag", "expiry-ignored", "key-prefix-match", "key-case-ignored")))
# Holes for callers without a key, which do not show where there is no key check at all.
HOLES_FOR_ALL = tuple(
    map(
        CauseId,
        (
            *("graphql-hole", "path-differential", "ajax-api-unguarded", "family-hole", "health-unguarded-anywhere"),
            *("exempt-path-left", "head-unguarded", "options-for-all", "preflight-forwarded", "other-verbs-unguarded"),
            *("hop-header-trusted", "identity-header-trusted", "claim-trusted", "path-from-host", "file-ending-exempt"),
        ),
    )
)
# What a caller may get away with where whether a key is checked depends on other callers' requests.
WRONGLY_LET_IN = tuple(
    map(
        CauseId,
        (
            *("rule-straight-to-mlflow", "key-check-off", "gate-open-in-part", "decided-without-asking", "refused-key-let-in"),
            *("revocation-ignored", "revocation-lag", "expiry-ignored", "key-prefix-match", "key-case-ignored", "odd-key-let-in"),
            *("service-not-checked", "rate-limit-not-enforced", "ratelimit-as-401", "token-expiry", "fail-open"),
            *HOLES_FOR_ALL,
        ),
    )
)
EXEMPT_PATHS = r"test_bypass_paths\.py::test_odd_path_\w+\[.*-exempt"
OPTIONS_TESTS = (r"test_denied_options", rf"{ENDPOINTS}::test_verbs", r"test_bypass_framing\.py::test_odd_method")


PAGE = Request("GET", "/")
OPTIONS = (replace(READ, method="OPTIONS"), Request("OPTIONS", "/version"))  # a path with other methods
ARTIFACT = "/api/2.0/mlflow-artifacts/artifacts/no-such-folder/x"  # MLflow names it in its error
STATIC_ENDINGS = (".css", ".js", ".png", ".ico", ".svg", ".json", ".txt", ".html")
FOUND = "experiments"  # a field of MLflow's answer to the plain read
# What MLflow serves outside /api, and what its own answer to it contains.
BESIDE_API = (
    (Request("GET", "/version"), rb"^\d+\.\d+"),
    (Request("GET", f"/get-artifact?run_id={NO_SUCH_RUN}&path=x"), NO_SUCH_RUN.encode()),
    (Request("GET", f"/model-versions/get-artifact?name={NO_SUCH_RUN}&version=1&path=x"), NO_SUCH_RUN.encode()),
    (Request("POST", "/v1/traces", JSON, b"{}"), rb"x-mlflow-experiment-id"),
    (Request("GET", "/gateway/mlflow/v1/models"), rb'"object": ?"list"'),
    (PAGE, rb"<title>MLflow"),
    (Request("GET", "/static-files/manifest.json"), rb'"start_url"'),
)
CARRIED_OUT_SAMPLE = 3  # refused calls, of which MLflow's log should show at least one
OPEN_BESIDE_USERS = ("/static-files/",)  # if MLflow has its own users: browsers load its pages before anybody has signed in
# Headers by which a read-only key would write: its permitted read is then answered as a different call.
URL_HEADERS, METHOD_HEADERS = ("X-Original-URL", "X-Rewrite-URL"), ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
# In which proxies tell an auth service about the call that it is asked about.
CALL_HEADERS = (
    ("X-Forwarded-Method", "X-Forwarded-Uri"),
    ("X-Original-Method", "X-Original-URI"),
    ("X-Original-Method", "X-Original-URL"),
)
OWN_HEADERS = ("X-MLflow-Proxy-Hop", "X-Internal-Request", "X-Envoy-Internal", "X-Proxy-Authenticated")
# What clients can say about where a call comes from, or who makes it. Some proxies let in what they take for their own side.
CLAIMS = (
    *(("X-Forwarded-For", address) for address in ("127.0.0.1", "10.0.0.1")),
    *(("X-Real-IP", "127.0.0.1"), ("Forwarded", "for=127.0.0.1"), ("Cookie", "session=x")),
    *(("User-Agent", f"{checker}/1.0") for checker in ("ELB-HealthChecker", "kube-probe", "GoogleHC")),
)
USER_HEADERS = (*("X-Auth-Key-Id", "X-Auth-User", "X_Auth_Key_Id", "X-Forwarded-User", "X-Remote-User", "Remote-User", "X-User"),)
# Hosts that a server that builds the URL from Host takes for another path, one that needs no key.
HOSTS_WITH_A_PATH = ("x/health?", "x/health#", "x{base}/health?", "x/static-files/?", "x/#", "x?")
# Paths that begin like one that needs no key, but lead elsewhere once their dot segments are resolved.
OUT_OF_EXEMPT_PATHS = tuple(
    f"/{exempt}{dots}api/" for exempt in ("health", "static-files") for dots in ("/../", "/%2e%2e/", "/..%2f", "%2f..%2f")
)
# MLflow's answer to a method that a path does not have.
NOT_ALLOWED = re.compile(rb'not allowed for the requested URL|"detail": ?"Method Not Allowed"')


def _spelled(before: str, after: str) -> Request:
    return replace(READ, path=READ.path.replace(before, after, 1))


def _with(name: str, value: str) -> Request:
    return replace(READ, headers=((name, value),))


def _keyless(request: Request) -> Test:
    """Return the test that a request gets the same answer without a key as with a good one, where the plain read needs a key."""

    def wrong(facts: Facts, route: Route) -> Reply | None:
        reply = facts.reply(Question(route, request))
        if reply.status is None or reply.status in facts.refusals or 300 <= reply.status < 400 or reply.status >= 500:
            return None
        if facts.reply(Question(route, READ)).works:
            return None  # everybody is let in, which is something else
        good, direct = facts.ask(route, request), facts.ask_directly(request)
        by_mlflow = _is_same(good, direct) if direct else good.status == 200
        return reply if by_mlflow and _is_same(reply, good) else None

    return wrong


def _is_same(one: Reply, other: Reply) -> bool:
    """Tell whether two answers mean the same. Any hop can return an error, so errors must have the same body."""
    return one.status == other.status and ((one.status or 500) < 300 or one.body == other.body != b"")


def _without_key(*requests: Request) -> Sign:
    """Return the sign that one of these requests is answered without a key."""

    def wrong(facts: Facts, route: Route) -> Reply | None:
        facts.replies(Question(route, request) for request in requests)
        return next((reply for request in requests if (reply := _keyless(request)(facts, route))), None)

    return on_each_route(wrong)


def _read_without_key(requests: Callable[[Route], Iterable[Request]]) -> Sign:
    """Return the sign that MLflow answers the plain read, disguised in one of these ways, without a key."""

    def wrong(facts: Facts, route: Route) -> Reply | None:
        if facts.reply(Question(route, READ)).works:
            return None  # everybody is let in, which is something else
        replies = facts.replies(Question(route, request) for request in requests(route))
        return next((reply for reply in replies if reply.works and FOUND in reply.json()), None)

    return on_each_route(wrong)


def _believed(facts: Facts, route: Route) -> Reply | None:
    """A read without a key that is let in because of a claim."""
    page = urlsplit(route.url)._replace(path="")  # a caller's own page, which browsers name
    claims = (*CLAIMS, ("Referer", f"{route.url}/"), ("Origin", page.geturl()), ("Sec-Fetch-Site", "same-origin"))
    facts.replies(Question(route, _with(*claim)) for claim in claims)
    return next((reply for claim in claims if (reply := _keyless(_with(*claim))(facts, route))), None)


def _with_path_in_host(route: Route) -> Iterable[Request]:
    return (_with("Host", host.format(base=urlsplit(route.url).path)) for host in HOSTS_WITH_A_PATH)


def _beside_api(facts: Facts, route: Route) -> list[Reply]:
    """Return MLflow's answers to what it serves outside its API, where they are the same without a key."""
    if facts.reply(Question(route, READ)).works:
        return []  # everybody is let in, which is something else
    exempt = OPEN_BESIDE_USERS if "basic" in facts.target.carriers else ()
    asked = [(request, said) for request, said in BESIDE_API if not request.path.startswith(exempt)]
    replies = facts.replies(Question(route, request) for request, _ in asked)
    mlflows = [reply for reply, (_, said) in zip(replies, asked, strict=True) if re.search(said, reply.body)]
    return [reply for reply in mlflows if _is_same(reply, facts.ask(route, reply.question.request))]


def _exempt_by_ending(facts: Facts, route: Route) -> Reply | None:
    """A download without a key that is let in because its name ends like that of a page's own file."""
    if facts.reply(Question(route, Request("GET", f"{ARTIFACT}.bin"))).status not in facts.refusals:
        return None  # all artifacts may be open, which is something else
    files = [Request("GET", ARTIFACT + ending) for ending in STATIC_ENDINGS]
    facts.replies(Question(route, file) for file in files)
    return next((reply for file in files if (reply := _keyless(file)(facts, route))), None)


def _family_hole(facts: Facts) -> Reading:
    """Tell whether anything outside the API is open without a key; the evidence lists what is."""
    reading = on_each_route(lambda facts, route: next(iter(_beside_api(facts, route)), None))(facts)
    if reading.shows is not Shows.YES:
        return reading
    routes = (facts.target.route(name) for name in sorted(reading.routes))
    paths = (
        f"{reply.question.request.path.partition('?')[0]} on {route}" for route in routes for reply in _beside_api(facts, route)
    )
    return replace(reading, evidence=(*reading.evidence, f"open without a key: {', '.join(paths)}"))


def _head(facts: Facts, route: Route) -> Reply | None:
    """HEAD without a key on a page that needs one for GET: unlike its API, MLflow answers it with 200."""
    get = facts.reply(Question(route, PAGE))
    return _keyless(replace(PAGE, method="HEAD"))(facts, route) if get.status in facts.refusals else None


def _options(facts: Facts, route: Route) -> Reply | None:
    reply = facts.reply(Question(route, OPTIONS[0]))
    return reply if reply.status and reply.status < 300 and not is_open_to_everybody(facts) else None


def _options_of_mlflow(facts: Facts, route: Route) -> Reply | None:
    """OPTIONS without a key, answered by MLflow: it lists the methods that each path has."""
    if not (reply := _options(facts, route)):
        return None
    allowed = [facts.reply(Question(route, request)).header("Allow") for request in OPTIONS]
    direct = [answer.header("Allow") for request in OPTIONS if (answer := facts.ask_directly(request))]
    is_mlflows = allowed == direct if direct else None not in allowed
    return reply if is_mlflows and len(set(allowed)) > 1 else None


def _rewritten(*requests: Request) -> Sign:
    """Return the sign that a header turns a read-only identity's read into a different call."""

    def wrong(facts: Facts, route: Route) -> Reply | None:
        for reader in readers(facts)[:1]:
            for request in requests:
                reply = facts.ask(route, request, reader)
                # A hop that refuses the header may itself answer 405, so only MLflow's own wording proves that MLflow saw it.
                honoured = reply.status == 404 or (reply.status == 405 and NOT_ALLOWED.search(reply.body))
                if honoured and facts.again(facts.question(route, READ, reader)).works:
                    return reply
        return None

    return on_each_route(wrong)


def _carried_out(facts: Facts, route: Route) -> Reply | None:
    """A call that was refused, yet appears in MLflow's own log."""
    if not facts.has_logs:
        return None
    refused, allowed = facts.token(), facts.token()
    # Several, since MLflow may log a call late if nobody waits for its answer.
    reply, *_ = facts.replies(Question(route, READ.marked(f"{refused}-{number}")) for number in range(CARRIED_OUT_SAMPLE))
    facts.ask(route, READ.marked(allowed))
    facts.lines(allowed, reached="mlflow")
    is_logged = any(line.hop.startswith("mlflow") for line in facts.lines(refused))
    return reply if is_logged and reply.status == facts.target.contract.unauthenticated else None


def _carried_out_before(facts: Facts) -> Reading:
    """Tell whether refused calls are carried out. If it shows on one route only, MLflow has logged those on the others too late."""
    reading = on_each_route(_carried_out)(facts)
    return replace(reading, hops=("proxy",), routes=frozenset()) if reading.shows is Shows.YES else reading


def _asked_about_a_claim(facts: Facts, route: Route) -> Reply | None:
    """A write with a read-only key that claims to be a read, in headers by which proxies tell auth services about a call."""
    reads = (f"{urlsplit(route.url).path}{READ.path}", READ.path)
    claims = [((method, "GET"), (path, read)) for method, path in CALL_HEADERS for read in reads]
    for reader in readers(facts)[:1]:
        if let_write_as(facts, route, reader, HARMLESS_WRITE):
            return None  # a reader may write, which is something else
        for claim in claims:
            if reply := let_write_as(facts, route, reader, replace(HARMLESS_WRITE, headers=(*JSON, *claim)), HARMLESS_WRITE):
                return reply
    return None


def _after_a_good_call(facts: Facts, route: Route, reads: Sequence[Request]) -> list[int]:
    """Return the statuses of a read with a good key, and of one without a key on the same connection. 0: there was none."""
    with Wire(route, timeout=timeouts.PROBE) as wire:
        try:
            first = wire.ask(replace(reads[0], headers=tuple(key_headers(facts.control).items()))).status
            return [first, wire.ask(reads[1]).status if wire.is_open else 0]
        except (OSError, http.client.HTTPException, RequestLimitError):
            return [0, 0]


def _trusted_connection(facts: Facts) -> Reading:
    """Tell whether a call without a key is let in on a connection that a good key was used on, and refused on others."""
    shown = []
    for route in facts.open_routes:
        name, reads = f"statuses of two calls on a connection on {route}", [READ.marked(facts.token()) for _ in range(2)]
        first, second = facts.observe(name, partial(_after_a_good_call, facts, route, reads))
        if first == second == http.client.OK and facts.reply(Question(route, READ)).status in facts.refusals:
            shown.append(route)
    if not shown:
        return NO
    evidence = f"GET {READ.path} on {shown[0]} without a key, after one with a key on the same connection: 200"
    return Reading(Shows.YES, (facts.reply(Question(shown[0], READ)), evidence), facts.behind(shown), frozenset(map(str, shown)))


def _key_check_off(facts: Facts, hops: tuple[str, ...]) -> bool | None:
    if hops == ("edge",):
        return False
    return None if (ill := auth_is_ill(facts)) is None else not ill


forbidden_and_keys_asked_for = forbidden_in_contract_words & stops(lambda facts, _: False if opinion(facts) else None)
crosses_edge = stops(lambda _, seen: "edge" in seen.hops)
straight_to_mlflow = unrouted_path & stops(lambda _, seen: by_mlflow(seen.reply) and by_mlflow(seen.nobody)) & ~crosses_edge
preflight_forwarded = shared("preflight forwarded", on_each_route(_options_of_mlflow))
word_exempts = shared("a word exempts", _without_key(_spelled("?", "/health?")))


CHECK_ALL = snippets(
    envoy="""
        routes: # ext_authz is asked on every route that does not disable it, whatever the method
          - match: { path: /health } # exactly this path
            direct_response: { status: 200, body: { inline_string: '{"status":"ok"}' } }
            typed_per_filter_config:
              envoy.filters.http.ext_authz:
                "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute
                disabled: true
          - match: { prefix: /mlflow/ }
            route: { cluster: mlflow, prefix_rewrite: /, timeout: 0s }
    """,
    nginx="""
        server {
            auth_request /authorize; # in every location that does not change it, whatever the method
            location = /health { # exactly this path
                auth_request off;
                return 200 '{"status":"ok"}';
            }
        }
    """,
)
NORMALIZE_AND_CHECK_ALL = snippets(envoy=NORMALIZED["Envoy"], nginx=CHECK_ALL["nginx"])

CAUSES = (
    Cause(
        id=CauseId("key-check-off"),
        hop="proxy",
        severity="open",
        symptom="everybody is let in, with or without a key",
        what="the proxy forwards requests without asking the auth service",
        remedy="put the authorization check back in front of every route",
        shows=straight_to_mlflow | wholly_open(_key_check_off),
        explains=HOLES_FOR_ALL,
        reddens=(*WITHOUT_KEY,),
        fixes=ASK,
    ),
    Cause(
        id=CauseId("gate-open-in-part"),
        hop="proxy",
        severity="open",
        symptom="some calls of the API need no key, while others do",
        what="the rule that requires a key does not cover the whole API",
        remedy="require a key on every path, for every method",
        shows=open_gate(lambda facts, _: not is_kept_for_others(facts) and is_open_in_part(facts)),
        reddens=(
            rf"{DENIALS}\w+\[.*-experiment",
            r"test_smoke\.py::test_denied_(read|write)\[",
            r"::test_denied_(key_in_query|options|bad_bearer)",
            r"test_bypass_framing\.py::test_(upgrade_without_key\[.*-h2c|odd_method|odd_request_line)",
            r"test_bypass_headers\.py::test_\w+_without_key",
            rf"{ODD_KEYS}::test_(like_a_key|odd_key|other_scheme|key_(in_another_header|under_folded_name|in_query|in_path))",
            r"test_bypass_paths\.py::test_odd_path_without_key\[(?!.*-prefixes)",
            rf"{ENDPOINTS}.*\[\w+-api-2",
            rf"{KEY_LIFETIME}::test_(revocation\[|client_waits)",
            r"test_identities_take_turns",
        ),
        fixes=CHECK_ALL,
    ),
    Cause(
        id=CauseId("decided-without-asking"),
        hop="proxy",
        severity="open",
        symptom="a key that must be refused works, and the auth service's log does not mention it",
        what="the proxy accepts some keys without asking the auth service",
        remedy="ask the auth service about every key, with no exceptions for tests or monitoring",
        shows=accepted_by_proxy,
        explains=OF_ANY_KEY,
        reddens=(
            r"::test_(client_raises|denied|keys_that|record_without)\w+\[\w+-malformed(?!-x-api-key)",
            rf"{ENDPOINTS}::test_who_may_call",
            r"test_identities_take_turns",
        ),
        fixes=CHECK_ALL,
    ),
    Cause(
        id=CauseId("graphql-hole"),
        hop="proxy",
        severity="open",
        symptom="anybody can query GraphQL without a key",
        what="the rule that requires a key does not cover /graphql",
        remedy=CHECK_EVERY_PATH,
        reports=("mlflow#25676", "mlflow#19278"),
        shows=_without_key(GRAPHQL),
        reddens=(
            rf"{DENIALS}\w+\[.*-query-graphql",
            rf"{ENDPOINTS}.*-pages",
        ),
        fixes=CHECK_ALL,
    ),
    Cause(
        id=CauseId("path-differential"),
        hop="proxy",
        severity="open",
        symptom="an unusual spelling of a path needs no key",
        what="the proxy compares the path as it was sent with the paths that need a key, while MLflow sees it decoded",
        remedy="require a key on every path, however it is spelled",
        reports=("https://github.com/envoyproxy/envoy/security/advisories/GHSA-xcx5-93pw-jw2w",),
        shows=_without_key(*(_spelled("/api/", spelling) for spelling in ("//api/", "/%61pi/", "/./api/", "/api//"))),
        explains=(
            CauseId("family-hole"),
            CauseId("exempt-path-left"),
        ),
        reddens=(r"test_bypass_paths\.py::test_odd_path_(without_key|of_denied_write)",),
        fixes=NORMALIZE_AND_CHECK_ALL,
    ),
    Cause(
        id=CauseId("ajax-api-unguarded"),
        hop="proxy",
        severity="open",
        symptom="calls by MLflow's pages need no key",
        what="the rule that requires a key covers /api but not its twin /ajax-api",
        remedy=CHECK_EVERY_PATH,
        shows=_without_key(_spelled("/api/", "/ajax-api/")),
        explains=(CauseId("get-taken-for-read"),),
        reddens=(
            rf"{ENDPOINTS}.*-ajax-api",
            rf"{DENIALS}\w+\[.*-upload-artifact-from-page",
            r"test_denied_get_that_acts",
        ),
        fixes=CHECK_ALL,
    ),
    Cause(
        id=CauseId("family-hole"),
        hop="proxy",
        severity="open",
        symptom="artifacts, traces, or MLflow's pages need no key",
        what="the rule that requires a key covers paths that begin with /api, but MLflow has other paths",
        remedy=CHECK_EVERY_PATH,
        shows=Sign(_family_hole),
        explains=(CauseId("graphql-hole"),),
        reddens=(
            rf"{ENDPOINTS}.*-(other|pages)",
            rf"{DENIALS}\w+\[.*-(query-graphql|download-artifact-from-page|list-gateway-models|send-span)",
        ),
        fixes=CHECK_ALL,
    ),
    Cause(
        id=CauseId("health-unguarded-anywhere"),
        hop="proxy",
        severity="open",
        symptom="paths that contain the word health need no key",
        what="the exemption for health checks searches for a word instead of comparing the path",
        remedy="exempt exactly one path of the proxy's own",
        shows=word_exempts,
        reddens=(EXEMPT_PATHS,),
        fixes=CHECK_ALL,
    ),
    Cause(
        id=CauseId("exempt-path-left"),
        hop="proxy",
        severity="open",
        symptom="a path that begins like an exempt one and continues with dot segments needs no key",
        what="the proxy exempts paths by how they begin, and resolves dot segments only when it forwards the request",
        remedy="normalize the path before anything is decided, and exempt exactly one path of the proxy's own",
        shows=_read_without_key(lambda _: (_spelled("/api/", path) for path in OUT_OF_EXEMPT_PATHS)) & ~word_exempts,
        reddens=(EXEMPT_PATHS,),
        fixes=NORMALIZE_AND_CHECK_ALL,
    ),
    Cause(
        id=CauseId("head-unguarded"),
        hop="proxy",
        severity="open",
        symptom="HEAD works without a key",
        what="the check is limited to a list of methods",
        remedy=CHECK_EVERY_METHOD,
        shows=on_each_route(_head),
        reddens=(rf"{ENDPOINTS}::test_verbs",),
        fixes=CHECK_ALL,
    ),
    Cause(
        id=CauseId("options-for-all"),
        hop="proxy",
        severity="contract",
        symptom="OPTIONS is answered without a key",
        what="the proxy answers preflight requests by itself",
        remedy="require a key for every method, or answer only preflights of known origins",
        shows=holds(lambda facts: facts.target.contract.preflight == "refused") & on_each_route(_options) & ~preflight_forwarded,
        reddens=OPTIONS_TESTS,
    ),
    Cause(
        id=CauseId("preflight-forwarded"),
        hop="proxy",
        severity="contract",
        symptom="MLflow answers OPTIONS without a key",
        what="the proxy forwards preflight requests to MLflow without checking a key",
        remedy="answer preflights of known origins at the proxy, or require a key for every method",
        shows=preflight_forwarded,
        reddens=OPTIONS_TESTS,
        fixes=CHECK_ALL,
    ),
    Cause(
        id=CauseId("other-verbs-unguarded"),
        hop="proxy",
        severity="open",
        symptom="methods that MLflow does not know reach it without a key",
        what="the check is limited to a list of methods",
        remedy=CHECK_EVERY_METHOD,
        shows=_without_key(replace(READ, method="DELETE")),
        reddens=(
            ENDPOINTS,
            r"::test_(client_raises_)?denied_(write|step)",
        ),
        fixes=CHECK_ALL,
    ),
    Cause(
        id=CauseId("hop-header-trusted"),
        hop="proxy",
        severity="open",
        symptom="a request with the header by which the proxy recognises its own requests needs no key",
        what="the proxy treats a request that claims to come from itself as already checked",
        remedy="refuse such requests: a client can send any header",
        shows=_without_key(*(_with(name, "1") for name in OWN_HEADERS)),
        reddens=(r"test_bypass_headers\.py::test_named_caller_\w+\[.*-odd",),
        fixes=snippets(
            envoy="""
                routes: # the first one
                  - match: { prefix: /, headers: [ { name: x-mlflow-proxy-hop, present_match: true } ] }
                    direct_response: { status: 508 }
            """,
            nginx="""
                server {
                    if ($http_x_mlflow_proxy_hop) {
                        return 508;
                    }
                }
            """,
        ),
    ),
    Cause(
        id=CauseId("identity-header-trusted"),
        hop="proxy",
        severity="open",
        symptom="a request with a user in X-Auth-Key-Id needs no key",
        what="the proxy accepts from clients the headers in which it names the caller to MLflow",
        remedy="remove these headers before anything else is decided",
        shows=_without_key(*(_with(name, "admin") for name in USER_HEADERS)),
        reddens=(r"test_bypass_headers\.py::test_named_caller",),
        fixes=snippets(
            envoy="""
                # of the HttpConnectionManager
                common_http_protocol_options: { headers_with_underscores_action: DROP_HEADER } # X_Auth_User is the same to WSGI
                early_header_mutation_extensions: # before anything is decided
                  - name: envoy.http.early_header_mutation.header_mutation
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation
                      mutations: [ { remove: x-auth-user }, { remove: x-auth-key-id } ]
            """,
            nginx="""
                server {
                    underscores_in_headers off; # X_Auth_User is the same to WSGI
                    location /mlflow/ {
                        auth_request /authorize;
                        auth_request_set $caller_user $upstream_http_x_auth_user;
                        auth_request_set $caller_key_id $upstream_http_x_auth_key_id;
                        proxy_set_header X-Auth-User $caller_user; # in place of the client's
                        proxy_set_header X-Auth-Key-Id $caller_key_id;
                    }
                }
            """,
        ),
    ),
    Cause(
        id=CauseId("claim-trusted"),
        hop="proxy",
        severity="open",
        symptom="a request that claims to come from inside, such as from a health checker, needs no key",
        what="the proxy lets requests in because of a header that any client can send",
        remedy="require a key on every path, and take a client's address only from the connection",
        shows=on_each_route(_believed),
        reddens=(r"test_bypass_headers\.py::test_",),
        fixes=snippets(
            envoy="""
                # of the HttpConnectionManager
                use_remote_address: true # the address of the connection, whatever a client writes into X-Forwarded-For
                xff_num_trusted_hops: 0 # how many trusted proxies are in front of this one
            """,
            nginx="""
                location /mlflow/ {
                    satisfy all; # with "any", a permitted address needs no key
                    auth_request /authorize;
                }
            """,
        ),
    ),
    Cause(
        id=CauseId("claimed-call-checked"),
        hop="proxy",
        severity="open",
        symptom="a read-only key can write",
        what="the auth service is asked about the method or path that the client names in a header, instead of the call's own",
        remedy="remove these headers from requests, and set them yourself when you ask the auth service",
        shows=on_each_route(_asked_about_a_claim),
        reddens=(r"test_bypass_headers\.py::test_\w+_of_denied_write",),
    ),
    Cause(
        id=CauseId("connection-trusted"),
        hop="proxy",
        severity="open",
        symptom="calls without a key work now and then, on connections that others use as well",
        what="only the first call on a connection is checked, and all later ones are let in",
        remedy="check the key of every call: load balancers send the calls of many clients on the same connection",
        shows=Sign(_trusted_connection),
        explains=WRONGLY_LET_IN,
        reddens=(r"test_fidelity_connections\.py", *WITHOUT_KEY),
    ),
    Cause(
        id=CauseId("file-ending-exempt"),
        hop="proxy",
        severity="open",
        symptom="artifacts whose names end like a web page's files, such as .png or .json, can be downloaded without a key",
        what="the rule that exempts static files goes by the ending of the path, wherever it is",
        remedy="exempt paths by their beginning, such as /static-files/, or require a key on every path",
        shows=on_each_route(_exempt_by_ending),
        explains=(CauseId("family-hole"),),
        reddens=(r"test_bypass_paths\.py::test_odd_path_\w+\[.*-(letters|ends-exempt)",),
    ),
    Cause(
        id=CauseId("path-from-host"),
        hop="proxy",
        severity="open",
        symptom="a request that names a path in Host needs no key",
        what="the proxy builds the URL from Host, so that a path in Host replaces the one that is called",
        remedy="use only the path in the request line, and refuse a Host that is more than a name and a port",
        shows=_read_without_key(_with_path_in_host),
        reddens=(r"test_bypass_headers\.py::test_host_",),
        fixes=snippets(nginx=AS_SENT["nginx"]),
    ),
    Cause(
        id=CauseId("original-url-honoured"),
        hop="proxy",
        severity="open",
        symptom="a read-only key can write",
        what="the proxy checks the path of the request but forwards to the one in X-Original-URL",
        remedy="ignore the header, or remove it before the check",
        shows=_rewritten(*(_with(name, HARMLESS_WRITE.path) for name in URL_HEADERS)),
        reddens=(r"test_bypass_headers\.py::test_path_in_header",),
        fixes=snippets(
            envoy="""
                # of the HttpConnectionManager
                early_header_mutation_extensions: # before anything is decided
                  - name: envoy.http.early_header_mutation.header_mutation
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation
                      mutations: [ { remove: x-original-url }, { remove: x-rewrite-url } ]
            """,
            nginx="""
                location /mlflow/ {
                    proxy_set_header X-Original-URL "";
                    proxy_set_header X-Rewrite-URL "";
                }
            """,
        ),
    ),
    Cause(
        id=CauseId("method-override-honoured"),
        hop="proxy",
        severity="open",
        symptom="a read-only key can write",
        what="the proxy checks the method of the request but forwards with the one in X-HTTP-Method-Override",
        remedy="ignore the header, or remove it before the check",
        shows=_rewritten(*(_with(name, "DELETE") for name in METHOD_HEADERS)),
        reddens=(r"test_bypass_headers\.py::test_method_(in_header_)?of_denied",),
        fixes=snippets(
            envoy="""
                # of the HttpConnectionManager
                early_header_mutation_extensions: # before anything is decided
                  - name: envoy.http.early_header_mutation.header_mutation
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation
                      mutations:
                        - remove: x-http-method-override
                        - remove: x-http-method
                        - remove: x-method-override
            """,
            nginx="""
                location /mlflow/ {
                    proxy_set_header X-HTTP-Method-Override "";
                    proxy_set_header X-HTTP-Method "";
                    proxy_set_header X-Method-Override "";
                }
            """,
        ),
    ),
    Cause(
        id=CauseId("forwarded-before-check"),
        hop="proxy",
        severity="open",
        symptom="calls are refused, but carried out nevertheless",
        what="the proxy forwards a request to MLflow while it is still waiting for the auth service",
        remedy="wait for the auth service's answer",
        shows=Sign(_carried_out_before),
        reddens=(
            rf"{ENDPOINTS}",
            r"::test_denied_(write|get_that_acts)",
        ),
    ),
    Cause(
        id=CauseId("path-asked-wrongly"),
        hop="proxy",
        severity="down",
        symptom="403 on every call with a good key",
        what="the proxy asks the auth service about a different path or method than the call's",
        remedy="ask about the call as it will be forwarded to MLflow",
        shows=forbidden_and_keys_asked_for.located("auth", "proxy"),
        reddens=(ALL,),
        fixes=ASK,
    ),
)
