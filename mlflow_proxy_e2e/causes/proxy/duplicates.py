"""Calls that the proxy sends more than once."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.snippets import snippets
from mlflow_proxy_e2e.facts.comparisons import in_sandbox
from mlflow_proxy_e2e.facts.facts import Facts
from mlflow_proxy_e2e.facts.question import Reply
from mlflow_proxy_e2e.facts.sandbox import Sandbox, post
from mlflow_proxy_e2e.facts.sign import UNTOLD, shared
from mlflow_proxy_e2e.target import Route

CREATED = 5  # concurrent calls: some may be too fast to be retried


def _created_more_than_once(facts: Facts, route: Route, own: Sandbox) -> Reply | None:
    """Several concurrent creations, and how many runs they made."""
    tag = {"key": "once", "value": facts.token()}
    creations = (
        post("runs/create", {"experiment_id": own.experiment_id, "tags": [tag], "user_id": f"{n}"}) for n in range(CREATED)
    )
    replies = facts.replies(facts.question(route, creation) for creation in creations)
    search = post("runs/search", {"experiment_ids": [own.experiment_id], "filter": f"tags.once = '{tag['value']}'"})
    held = facts.ask_mlflow(route, search).json()
    return replies[0] if isinstance(held, dict) and len(held.get("runs", ())) > CREATED else None


created_more_than_once = shared("created more than once", in_sandbox(_created_more_than_once))


CAUSES = (
    Cause(
        id=CauseId("ghost-runs"),
        hop="proxy",
        severity="loss",
        symptom="one call creates two runs",
        what="the proxy retries calls whose answer takes long, including POST",
        remedy="retry only requests that were never sent",
        reports=("mlflow#8238",),
        shows=created_more_than_once & UNTOLD,
        reddens=(
            r"test_one_run_for_each_call",
            r"test_duplicate_writes\.py",
            r"test_writes_in_flight",
        ),
        fixes=snippets(
            envoy="""
                routes:
                  - match: { prefix: /mlflow/ }
                    route:
                      cluster: mlflow
                      prefix_rewrite: /
                      timeout: 0s
                      retry_policy: { retry_on: connect-failure, num_retries: 1 } # not 5xx or reset: MLflow may have done it
            """,
            nginx="""
                location /mlflow/ {
                    proxy_next_upstream off;
                }
            """,
        ),
    ),
    Cause(
        id=CauseId("shadow-traffic"),
        hop="proxy",
        severity="loss",
        symptom="one call creates two runs",
        what="the proxy mirrors every call to another MLflow on the same database",
        remedy="mirror reads only, or mirror to a server with its own database",
        shows=created_more_than_once & UNTOLD,
        reddens=(
            r"test_one_run_for_each_call",
            r"test_duplicate_writes\.py",
            r"test_writes_in_flight",
        ),
        fixes=snippets(
            envoy="""
                routes:
                  - match: { prefix: /mlflow/ }
                    route:
                      cluster: mlflow
                      prefix_rewrite: /
                      timeout: 0s
                      request_mirror_policies: [] # nor in the virtual host
            """,
            nginx="""
                location /mlflow/ {
                    mirror off;
                }
            """,
        ),
    ),
)
