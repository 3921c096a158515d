"""What the edge changes on the way: prefixes, redirects, logins and headers."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.edge.routing import strip_none, without_rule
from mlflow_proxy_e2e.causes.patterns import EXTERNAL, external
from mlflow_proxy_e2e.causes.snippets import TO_PROXY, snippets
from mlflow_proxy_e2e.facts.comparisons import in_sandbox, status_is_not, unless
from mlflow_proxy_e2e.facts.facts import READ, Facts
from mlflow_proxy_e2e.facts.question import Question, Reply
from mlflow_proxy_e2e.facts.sandbox import Sandbox, get, post
from mlflow_proxy_e2e.facts.sign import UNTOLD, Sign, needing, on_routes
from mlflow_proxy_e2e.facts.stopped import page_in_its_place, stopped, stops
from mlflow_proxy_e2e.target import Route
from mlflow_proxy_e2e.wire import Request

SEARCH = post("runs/search", {"experiment_ids": [], "max_results": 1})
HTML = b'<!doctype html>\n<body><!-- by --> <a href="mailto:someone@example.com">someone@example.com</a></body>\n'


def _redirect(facts: Facts) -> str | None:
    """Return the redirect that a good key gets: to a login page, or to MLflow in a way that loses the key or the method.

    A key is sent only to the host that it is for, and never in the clear, whatever an answer says.
    """
    seen = stopped(facts)
    if not seen or not seen.by_every_carrier or not 300 <= seen.status < 400:
        return None
    reply, route = seen.reply, seen.route
    url, base = urlsplit(urljoin(route.url + reply.question.request.path, reply.header("Location") or "")), urlsplit(route.url)
    if url.hostname != base.hostname or url.scheme not in (base.scheme, "https"):
        return "redirect-drops-auth" if url.path.endswith(READ.path.partition("?")[0]) else "sso-login"
    followed = facts.ask(Route(route.name, f"{url.scheme}://{url.netloc}", route.ca), Request("GET", f"{url.path}?{url.query}"))
    if not followed.works:
        return "sso-login"
    return "redirect-post-to-get" if reply.status in (301, 302, 303) else "redirect-drops-auth"


def _redirected(how: str) -> Sign:
    return stops(lambda facts, _: facts.once(_redirect) == how)


def _page(facts: Facts, route: Route, own: Sandbox) -> Reply | None:
    """Return a page that is downloaded with different content than was uploaded."""
    upload = Request("PUT", f"{own.artifacts}/{route}-page.html", body=HTML)
    if facts.ask_mlflow(route, upload).status != 200:
        return None
    return unless(Request("GET", upload.path), lambda reply: reply.status != 200 or reply.body == HTML)(facts, route)


def _folder_like_prefix(facts: Facts, route: Route, own: Sandbox) -> Reply | None:
    """Return an upload to a folder named like the route's prefix that is accepted, but creates no such folder."""
    if not (prefix := urlsplit(route.url).path):
        return None
    upload = facts.ask(route, Request("PUT", f"{own.artifacts}{prefix}/x.txt", body=b"x"))
    listing = get(f"artifacts/list?run_id={own.run_ids[0]}")
    listed = facts.again(Question(facts.direct, listing) if facts.direct else facts.question(route, listing)).json()
    if upload.status != 200 or not isinstance(listed, dict):
        return None
    return None if prefix.split("/")[1] in {file.get("path") for file in listed.get("files", ())} else upload


RIGHT_PREFIX = snippets(
    envoy=TO_PROXY["Envoy"],
    nginx=TO_PROXY["nginx"],
    aws="""
        aws elbv2 modify-rule --rule-arn "$MLFLOW_RULE_ARN" --transforms '[{"Type": "url-rewrite",
          "UrlRewriteConfig": {"Rewrites": [{"Regex": "^/api/mlflow", "Replace": "/mlflow"}]}}]'
    """,
)
WITHOUT_LOGIN = snippets(
    envoy="""
        http_filters:
          - name: envoy.filters.http.oauth2
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.oauth2.v3.OAuth2
              config:
                pass_through_matcher: [ { name: ":path", string_match: { prefix: /api/mlflow/ } } ] # no login here
    """,
    nginx="""
        location /api/mlflow/ {
            auth_request off; # which asks the login service; the proxy checks the key
        }
    """,
    aws="""
        # before the rule with the action authenticate-oidc or authenticate-cognito
        aws elbv2 create-rule --listener-arn "$HTTPS_LISTENER_ARN" --priority 1 \\
          --conditions 'Field=path-pattern,Values=[/api/mlflow,/api/mlflow/*]' \\
          --actions "Type=forward,TargetGroupArn=$PROXY_TARGET_GROUP_ARN"
    """,
)

CAUSES = (
    Cause(
        id=CauseId("edge-strip-none"),
        hop="edge",
        severity="down",
        symptom="404 from the proxy on every call through the external URL",
        what="the edge forwards the public prefix, which the proxy does not know",
        remedy="replace the public prefix with the proxy's own",
        shows=without_rule(lambda _, seen: strip_none(seen)),
        reddens=(EXTERNAL,),
        fixes=RIGHT_PREFIX,
    ),
    Cause(
        id=CauseId("edge-strip-twice"),
        hop="edge",
        severity="down",
        symptom="404 from the proxy on every call through the external URL",
        what="the edge strips the proxy's own prefix together with the public one",
        remedy="replace the public prefix with the proxy's own",
        shows=without_rule(lambda _, seen: seen.with_prefix is not None),
        reddens=(EXTERNAL,),
        fixes=RIGHT_PREFIX,
    ),
    Cause(
        id=CauseId("redirect-post-to-get"),
        hop="edge",
        severity="down",
        symptom="reads work, but writes are answered 404 or 405, or like a read of the same path",
        what="the edge redirects with 301 or 302, after which clients turn a POST into a GET",
        remedy="have clients use the new URL, or redirect with 308 or 307",
        shows=_redirected("redirect-post-to-get") | on_routes(unless(SEARCH, status_is_not(301, 302, 303))),
        reddens=(external(r"::(?!test_(get|read|look_up|list|load|metric_history|start_page)\b|test_get_)test_"),),
        fixes=snippets(
            envoy="""
                routes:
                  - match: { prefix: /old/mlflow/ }
                    redirect: { prefix_rewrite: /api/mlflow/, response_code: PERMANENT_REDIRECT } # 308
            """,
            nginx="""
                location /old/mlflow/ {
                    if ($request_uri ~ ^/old/mlflow(?<rest>/.*)$) { # as it was sent, with its query
                        return 308 https://$http_host/api/mlflow$rest;
                    }
                }
            """,
        ),
    ),
    Cause(
        id=CauseId("redirect-drops-auth"),
        hop="edge",
        severity="down",
        symptom="401 on every call through the external URL, with a good key",
        what="the edge redirects to another host name, where clients do not send their key",
        remedy="have clients use that name themselves",
        shows=_redirected("redirect-drops-auth") | on_routes(unless(SEARCH, status_is_not(307, 308))),
        reddens=(EXTERNAL,),
        fixes=snippets(
            envoy="""
                virtual_hosts: # both names, without a redirect from one to the other
                  - name: mlflow
                    domains: [ mlflow.example.com, registry.example.com ]
            """,
            nginx="""
                server { # both names, without a redirect from one to the other
                    server_name mlflow.example.com registry.example.com;
                }
            """,
        ),
    ),
    Cause(
        id=CauseId("sso-login"),
        hop="edge",
        severity="down",
        symptom="200 on every call through the external URL, and the client complains that it is not JSON",
        what="the edge redirects every request without a browser session to a login page",
        remedy="exempt API calls from single sign-on: the proxy checks their key",
        reports=("mlflow#4955", "oidc#41"),
        shows=_redirected("sso-login"),
        reddens=(EXTERNAL,),
        fixes=WITHOUT_LOGIN,
    ),
    Cause(
        id=CauseId("sso-html-200"),
        hop="edge",
        severity="down",
        symptom="200 with an HTML page on every call, and the client complains that it is not JSON",
        what="a web page answers in place of MLflow",
        remedy="exempt the public prefix from the login page, or correct the URL",
        shows=page_in_its_place & UNTOLD,
        reddens=(EXTERNAL,),
        fixes=WITHOUT_LOGIN,
    ),
    Cause(
        id=CauseId("html-rewritten"),
        hop="edge",
        severity="loss",
        symptom="HTML reports and plots change between upload and download: e-mail addresses are hidden, or scripts are added",
        what="a hop rewrites HTML, as content delivery networks do to hide e-mail addresses or add scripts",
        remedy="switch these features off below the public prefix",
        shows=needing("artifacts") & in_sandbox(_page),
        reddens=(external(r"test_artifacts\.py::test_page"),),
    ),
    Cause(
        id=CauseId("prefix-removed-everywhere"),
        hop="edge",
        severity="loss",
        symptom="artifacts in a folder named like the public prefix end up elsewhere",
        what="the prefix is removed wherever it occurs in a path",
        remedy="remove the prefix only at the beginning of the path",
        shows=needing("artifacts") & in_sandbox(_folder_like_prefix),
        reddens=(external(r"test_artifacts\.py::test_folder_named_like_prefix"),),
        fixes=RIGHT_PREFIX,
    ),
)
