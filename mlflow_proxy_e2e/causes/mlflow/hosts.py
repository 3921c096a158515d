"""The names and prefixes under which MLflow answers."""

from __future__ import annotations

from urllib.parse import urlsplit

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.mlflow.serving import directly
from mlflow_proxy_e2e.causes.patterns import ALL
from mlflow_proxy_e2e.causes.proxy.paths import is_cut, wrong_path
from mlflow_proxy_e2e.causes.snippets import snippets
from mlflow_proxy_e2e.facts.facts import Facts
from mlflow_proxy_e2e.facts.refused import host_refused
from mlflow_proxy_e2e.facts.stopped import Stopped, mlflow_unknown, stops


def _forbids_its_own_address(facts: Facts, seen: Stopped) -> bool | None:
    """Tell whether MLflow refuses the host name used to call it: the proxy's fault if MLflow accepts that address directly."""
    if not facts.has_logs or not facts.direct:
        return None
    return not (seen.hops == ("proxy",) and urlsplit(facts.direct.url).netloc in facts.said(seen.reply, "proxy", "upstream"))


foreign_host = host_refused & stops(_forbids_its_own_address)


CAUSES = (
    Cause(
        id=CauseId("host-403"),
        hop="mlflow",
        severity="down",
        symptom='403 "Invalid Host header" on every call, while /health works',
        what="MLflow's --allowed-hosts lacks the name under which the proxy calls it",
        remedy="add that name, with its port, to --allowed-hosts",
        reports=("mlflow#22095", "oidc#207"),
        shows=directly(lambda reply: reply.status == 403) | foreign_host.located("proxy", "mlflow"),
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("static-prefix-mismatch"),
        hop="mlflow",
        severity="down",
        symptom="404 from MLflow on every call",
        what="MLflow runs with --static-prefix, which since 3.12 also moves its API, but the proxy strips that prefix",
        remedy="forward the prefix, or run MLflow without --static-prefix",
        reports=("mlflow#22159", "mlflow#24473", "mlflow#24511"),
        shows=directly(lambda reply: reply.status == 404)
        | (wrong_path & ~stops(is_cut) & mlflow_unknown).located("proxy", "mlflow"),
        reddens=(ALL,),
        fixes=snippets(
            envoy="""
                routes:
                  - match: { prefix: /mlflow/ }
                    route: { cluster: mlflow, timeout: 0s } # without prefix_rewrite
            """,
            nginx="""
                location /mlflow/ {
                    proxy_pass http://mlflow.internal:5000; # without a path: everything is forwarded as it was sent
                }
            """,
        ),
    ),
)
