"""The edge's listener rules: where each path is sent, and which paths have no rule."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import ARTIFACTS, EXTERNAL, NO_RULE, OTLP, PAGES, VERSION_3, external
from mlflow_proxy_e2e.causes.snippets import TO_PROXY, snippets
from mlflow_proxy_e2e.facts.admission import wholly_open
from mlflow_proxy_e2e.facts.comparisons import by_mlflow, unrouted
from mlflow_proxy_e2e.facts.facts import EDGE_ROUTE, READ, Facts
from mlflow_proxy_e2e.facts.outage import health
from mlflow_proxy_e2e.facts.question import Question, Reply
from mlflow_proxy_e2e.facts.sandbox import SPANS
from mlflow_proxy_e2e.facts.sign import NO, UNTOLD, Reading, Shows, Sign, any_of, needing, on_routes
from mlflow_proxy_e2e.facts.stopped import SPLIT_TWIN, page_in_its_place, status, stopped, stops, twin_works, unrouted_path
from mlflow_proxy_e2e.target import Route
from mlflow_proxy_e2e.wire import JSON, Request

NOWHERE = Request("GET", "/no-such-path-of-anybody")
TRACES_SEARCH = Request("POST", "/api/3.0/mlflow/traces/search", JSON, b"{}")
NO_FOLDER = Request("GET", "/api/2.0/mlflow-artifacts/artifacts?path=no-such-folder")
PAGE = Request("GET", "/")


@dataclass(frozen=True)
class NoRule:
    """A call that none of the edge's rules covers, although it succeeds behind the edge.

    Args:
        elsewhere: the edge's answer to a path that means nothing to any hop.
        at_proxy: the proxy's answer to the same path, by inner route.
        with_prefix: the same call with an inner route's prefix in front of it, if that works.
    """

    reply: Reply
    elsewhere: Reply
    at_proxy: Sequence[Reply]
    with_prefix: Reply | None


def _no_rule(facts: Facts) -> NoRule | None:
    seen = stopped(facts)
    if not seen or not seen.by_every_carrier or seen.status != 404 or not seen.at_edge or by_mlflow(seen.reply):
        return None
    if facts.ask(seen.route, SPLIT_TWIN).works:
        return None
    route, base = seen.route, urlsplit(seen.route.url)
    elsewhere = facts.ask(Route(route.name, f"{base.scheme}://{base.netloc}", route.ca), NOWHERE)
    prefixed, at_proxy = None, []
    for inner in (each for each in facts.target.routes if each.name != EDGE_ROUTE):
        inner_prefix = urlsplit(inner.url).path
        again = facts.ask(route, Request("GET", inner_prefix + READ.path))
        prefixed = prefixed or (again if again.works else None)
        at_proxy.append(facts.ask(Route(inner.name, inner.url.removesuffix(inner_prefix)), Request("GET", base.path + READ.path)))
    return NoRule(seen.reply, elsewhere, at_proxy, prefixed)


def without_rule(test: Callable[[Facts, NoRule], bool | None]) -> Sign:
    """Return the sign that no rule of the edge covers a call, and that ``test`` holds for it."""

    def read(facts: Facts) -> Reading:
        if not (seen := facts.once(_no_rule)) or (shows := test(facts, seen)) is False:
            return NO
        evidence = (seen.reply, *filter(None, [seen.with_prefix]), *seen.at_proxy, seen.elsewhere, *facts.trace(seen.reply))
        return Reading(Shows.UNKNOWN if shows is None else Shows.YES, evidence, ("edge",), frozenset([EDGE_ROUTE]))

    return Sign(read)


def _is_like(one: Reply, other: Reply) -> bool:
    """Tell whether the same hop gave both answers: they are equal except for the path and any ids in them."""
    return _by(one) == _by(other)


def _by(reply: Reply) -> object:
    words = re.sub(rb"[^\s\"'<>]*[/\d][^\s\"'<>]*", b"", reply.body)
    return reply.status, reply.header("Content-Type"), words


def _is_like_proxys(seen: NoRule) -> bool:
    return not seen.with_prefix and any(_is_like(reply, seen.reply) for reply in seen.at_proxy)


def _is_passed_on(facts: Facts, seen: NoRule) -> bool:
    return facts.said(seen.reply, "edge", "details") == ["via_upstream"] and not facts.said(seen.reply, "proxy", "path")


def _is_another_services(facts: Facts, seen: NoRule) -> bool:
    if seen.with_prefix or _is_like_proxys(seen):
        return False
    return _is_passed_on(facts, seen) or not _is_like(seen.elsewhere, seen.reply)


def _is_ruleless(seen: NoRule) -> bool | None:
    """Tell whether the listener has no rules. UNKNOWN if the proxy would give the same answer to an unknown prefix."""
    if not seen.reply.question.route.url.startswith("https:") or not _is_like(seen.elsewhere, seen.reply) or seen.with_prefix:
        return False
    return None if _is_like_proxys(seen) else True


def strip_none(seen: NoRule) -> bool | None:
    if not _is_like_proxys(seen):
        return False
    return None if _is_ruleless(seen) is None else True


def _spans_unrouted(facts: Facts, route: Route) -> Reply | None:
    """Return a refusal of spans by a hop that has no rule for their path. MLflow's own 404 shows that there is a rule."""
    reply = unrouted(SPANS)(facts, route)
    return reply if reply and not by_mlflow(reply) else None


def _asset(facts: Facts, route: Route) -> Reply | None:
    """A script of MLflow's pages, by the name that the page itself uses."""
    page = facts.ask_mlflow(route, PAGE)
    found = re.search(rb'(?:src|href)="\.?/?(static-files/[^"]+)"', page.body)
    return unrouted(Request("GET", f"/{found[1].decode()}"))(facts, route) if found else None


def _outside_prefix(facts: Facts, route: Route) -> Reply | None:
    """MLflow outside the prefix, where no key is required."""
    parts = urlsplit(route.url)
    outside = facts.reply(Question(Route(route.name, f"{parts.scheme}://{parts.netloc}", route.ca), READ))
    return outside if parts.path.strip("/") and outside.works else None


def _edge_health(facts: Facts) -> Reading:
    """The edge's own health path, which answers without a key."""
    asked = facts.ask_hop("edge")
    return Reading(Shows.YES, (asked,), ("edge",)) if asked and asked.status not in (None, 200) else NO


straight_to_mlflow = unrouted_path & stops(lambda _, seen: by_mlflow(seen.reply) and by_mlflow(seen.nobody))
crosses_edge = stops(lambda _, seen: "edge" in seen.hops)
V3_CALLS = (Request("GET", "/api/3.0/mlflow/server-info"), TRACES_SEARCH)


def _is_open_at_edge(facts: Facts, hops: tuple[str, ...]) -> bool | None:
    if hops == ("edge",):
        return True
    return None if "edge" in hops and health(facts) is None else False


UNNAMED = (("no rule of the edge covers the path", without_rule(lambda *_: True)),)


CAUSES = (
    Cause(
        id=CauseId("rule-straight-to-mlflow"),
        hop="edge",
        severity="down",
        symptom="404 in HTML on every call through the external URL",
        what="the listener rule sends the public prefix to MLflow instead of the proxy",
        remedy="make the proxy the rule's target",
        shows=(straight_to_mlflow & crosses_edge) | wholly_open(_is_open_at_edge),
        reddens=(EXTERNAL,),
        fixes=TO_PROXY,
    ),
    Cause(
        id=CauseId("rule-to-wrong-service"),
        hop="edge",
        severity="down",
        symptom="404 from an unrelated service on every call through the external URL",
        what="the listener rule's target is a service that has nothing to do with MLflow",
        remedy="make the proxy the rule's target",
        shows=without_rule(_is_another_services) | (page_in_its_place & crosses_edge & UNTOLD),
        reddens=(EXTERNAL,),
        fixes=TO_PROXY,
    ),
    Cause(
        id=CauseId("tls-listener-ruleless"),
        hop="edge",
        severity="down",
        symptom="404 in plain text on everything over HTTPS",
        what="the rules are on another listener: the HTTPS listener has nothing but its default answer",
        remedy="put the rules on both listeners",
        shows=without_rule(lambda _, seen: _is_ruleless(seen)),
        explains=(CauseId("edge-health-shadowed"),),
        reddens=(EXTERNAL,),
        fixes=snippets(
            nginx="""
                server { # one server with the rules, for both
                    listen 80;
                    listen 443 ssl;
                    ssl_certificate fullchain.pem;
                    ssl_certificate_key privkey.pem;
                }
            """,
            aws="""
                aws elbv2 create-rule --listener-arn "$HTTPS_LISTENER_ARN" --priority 10 \\
                  --conditions 'Field=path-pattern,Values=[/api/mlflow,/api/mlflow/*]' \\
                  --actions "Type=forward,TargetGroupArn=$PROXY_TARGET_GROUP_ARN"
            """,
        ),
    ),
    Cause(
        id=CauseId("api-ajax-split"),
        hop="edge",
        severity="down",
        symptom="404 on calls by MLflow's pages, while clients work",
        what="there is a rule for /api but none for its twin /ajax-api",
        remedy="forward every path below the prefix",
        reports=("mlflow#4484",),
        shows=needing("ui") & on_routes(unrouted(replace(READ, path=f"/ajax-{READ.path[1:]}"))),
        reddens=(external(PAGES, "ajax-api"),),
        fixes=TO_PROXY,
    ),
    Cause(
        id=CauseId("api-unrouted"),
        hop="edge",
        severity="down",
        symptom="404 on calls by clients, while MLflow's pages work",
        what="there is a rule for /ajax-api but none for its twin /api",
        remedy="forward every path below the prefix",
        reports=("mlflow#4484",),
        shows=status(404) & twin_works,
        reddens=(external(rf"^(?!.*({PAGES}|{OTLP}|graphql|ajax-api|-other|-pages|from-page|asset))."),),
        fixes=TO_PROXY,
    ),
    Cause(
        id=CauseId("v3-unrouted"),
        hop="edge",
        severity="down",
        symptom="404 on traces and datasets, while experiments and runs work",
        what="there is a rule for /api/2.0 but none for /api/3.0",
        remedy="forward every path below the prefix",
        shows=needing("traces") & any_of(on_routes(unrouted(call)) for call in V3_CALLS),
        reddens=(external(*VERSION_3, r"external-api-3"),),
        fixes=TO_PROXY,
    ),
    Cause(
        id=CauseId("otlp-unrouted"),
        hop="edge",
        severity="down",
        symptom="404 on traces sent by OpenTelemetry",
        what="there is no rule for /v1/traces",
        remedy="forward every path below the prefix",
        shows=needing("otlp", scope="write") & on_routes(_spans_unrouted),
        explains=(CauseId("compressed-refused"),),
        reddens=(external(OTLP, r"test_fidelity_(requests\.py::test_header_value|transfer\.py::test_coded_request)", "-other"),),
        fixes=TO_PROXY,
    ),
    Cause(
        id=CauseId("artifacts-unrouted"),
        hop="edge",
        severity="down",
        symptom="404 on artifacts, while experiments and runs work",
        what="there is a rule for /api/2.0/mlflow but none for /api/2.0/mlflow-artifacts",
        remedy="forward every path below the prefix",
        shows=needing("artifacts") & on_routes(unrouted(NO_FOLDER)),
        explains=(CauseId("method-filter"),),
        reddens=(external(ARTIFACTS),),
        fixes=TO_PROXY,
    ),
    Cause(
        id=CauseId("ui-blank-under-prefix"),
        hop="edge",
        severity="down",
        symptom="MLflow's page stays blank",
        what="there is no rule for /static-files, which serves the page's script and styles",
        remedy="forward every path below the prefix",
        reports=("mlflow#2193", "mlflow#19031"),
        shows=needing("ui") & on_routes(_asset),
        reddens=(external(r"test_ui\.py", r"test_fidelity_transfer\.py::test_(coded_answer|conditional|head)", r"-pages"),),
        fixes=TO_PROXY,
    ),
    Cause(
        id=CauseId("catchall-to-mlflow"),
        hop="edge",
        severity="open",
        symptom="everything works, and outside the public prefix it works without a key",
        what="a catch-all rule sends paths that no other rule covers straight to MLflow",
        remedy="have the edge answer 404 to paths that no rule covers",
        shows=on_routes(_outside_prefix),
        reddens=(external(r"test_bypass_paths\.py::test_odd_path_without_key\[.*-prefixes", NO_RULE),),
        fixes=snippets(
            envoy="""
                routes: # the last one
                  - match: { prefix: / }
                    direct_response:
                      status: 404
                      body: { inline_string: '{"error_code":"ENDPOINT_NOT_FOUND","message":"The edge has no rule for this path."}' }
            """,
            nginx="""
                location / {
                    default_type application/json;
                    return 404 '{"error_code":"ENDPOINT_NOT_FOUND","message":"The edge has no rule for this path."}';
                }
            """,
            aws="""
                aws elbv2 modify-listener --listener-arn "$HTTPS_LISTENER_ARN" --default-actions '[{"Type": "fixed-response",
                  "FixedResponseConfig": {"StatusCode": "404", "ContentType": "application/json",
                  "MessageBody": "{\\"error_code\\":\\"ENDPOINT_NOT_FOUND\\",\\"message\\":\\"No rule for this path.\\"}"}}]'
            """,
        ),
    ),
    Cause(
        id=CauseId("edge-health-shadowed"),
        hop="edge",
        severity="contract",
        symptom="404 on the edge's own health path, while MLflow works",
        what="the rule for the health path comes after the one that covers everything",
        remedy="put the rule for the health path first",
        shows=Sign(_edge_health),
        reddens=(r"test_health\.py::test_health\[edge",),
        fixes=snippets(
            envoy="""
                routes:
                  - match: { path: /health } # before the rules with a prefix: the first that matches counts
                    direct_response: { status: 200, body: { inline_string: '{"status":"ok"}' } }
            """,
            nginx="""
                location = /health { # "=" comes before every other location
                    default_type application/json;
                    return 200 '{"status":"ok"}';
                }
            """,
            aws="""
                aws elbv2 set-rule-priorities --rule-priorities "RuleArn=$HEALTH_RULE_ARN,Priority=1"
            """,
        ),
    ),
)
