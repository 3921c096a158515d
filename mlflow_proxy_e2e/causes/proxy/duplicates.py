"""Calls that the proxy sends more than once."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
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
    ),
)
