"""What the edge changes on the way: prefixes, redirects, logins and headers."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import EXTERNAL, external

CAUSES = (
    Cause(
        id=CauseId("edge-strip-none"),
        hop="edge",
        severity="down",
        symptom="404 from the proxy on every call through the external URL",
        what="the edge forwards the public prefix, which the proxy does not know",
        remedy="replace the public prefix with the proxy's own",
        reddens=(EXTERNAL,),
    ),
    Cause(
        id=CauseId("edge-strip-twice"),
        hop="edge",
        severity="down",
        symptom="404 from the proxy on every call through the external URL",
        what="the edge strips the proxy's own prefix together with the public one",
        remedy="replace the public prefix with the proxy's own",
        reddens=(EXTERNAL,),
    ),
    Cause(
        id=CauseId("redirect-post-to-get"),
        hop="edge",
        severity="down",
        symptom="reads work, but writes are answered 404 or 405, or like a read of the same path",
        what="the edge redirects with 301 or 302, after which clients turn a POST into a GET",
        remedy="have clients use the new URL, or redirect with 308 or 307",
        reddens=(external(r"::(?!test_(get|read|look_up|list|load|metric_history|start_page)\b|test_get_)test_"),),
    ),
    Cause(
        id=CauseId("redirect-drops-auth"),
        hop="edge",
        severity="down",
        symptom="401 on every call through the external URL, with a good key",
        what="the edge redirects to another host name, where clients do not send their key",
        remedy="have clients use that name themselves",
        reddens=(EXTERNAL,),
    ),
    Cause(
        id=CauseId("sso-login"),
        hop="edge",
        severity="down",
        symptom="200 on every call through the external URL, and the client complains that it is not JSON",
        what="the edge redirects every request without a browser session to a login page",
        remedy="exempt API calls from single sign-on: the proxy checks their key",
        reports=("mlflow#4955", "oidc#41"),
        reddens=(EXTERNAL,),
    ),
    Cause(
        id=CauseId("sso-html-200"),
        hop="edge",
        severity="down",
        symptom="200 with an HTML page on every call, and the client complains that it is not JSON",
        what="a web page answers in place of MLflow",
        remedy="exempt the public prefix from the login page, or correct the URL",
        reddens=(EXTERNAL,),
    ),
    Cause(
        id=CauseId("auth-stripped"),
        hop="edge",
        severity="down",
        symptom="401 for good keys sent as a bearer token",
        what="the edge drops the Authorization header",
        remedy="forward the Authorization header unchanged",
        reddens=(rf"^(?!.*x-api-key).*{EXTERNAL}",),
    ),
)
