"""Several MLflow servers behind one proxy."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.mlflow.serving import number_in
from mlflow_proxy_e2e.causes.patterns import ALL
from mlflow_proxy_e2e.facts.facts import Facts
from mlflow_proxy_e2e.facts.sandbox import sandbox
from mlflow_proxy_e2e.facts.sign import NO, Reading, Shows, Sign
from mlflow_proxy_e2e.version import VERSION
from mlflow_proxy_e2e.wire import Request

TIMES = 6  # reads, of something that not every server may have


def _split(facts: Facts) -> Reading:
    """What one server has, every server must have."""
    own = sandbox(facts) if facts.open_routes else None
    if own is None or not own.is_there:
        return NO
    read = Request("GET", f"/api/2.0/mlflow/runs/get?run_id={own.run_ids[0]}")
    for route in facts.open_routes:
        replies = facts.several_times(facts.question(route, read), TIMES)
        there, missing = [r for r in replies if r.status == 200], [r for r in replies if r.status == 404]
        if there and missing:
            return Reading(Shows.YES, (there[0], missing[0]), ("mlflow",))
    return NO


def _skewed(facts: Facts) -> Reading:
    """MLflow's version changes from call to call."""
    for route in facts.open_routes:
        replies = facts.several_times(facts.question(route, VERSION), TIMES)
        said = {reply.body: reply for reply in replies if number_in(reply)}
        if len(said) > 1:
            return Reading(Shows.YES, tuple(said.values()), ("mlflow",))
    return NO


CAUSES = (
    Cause(
        id=CauseId("replica-split"),
        hop="mlflow",
        severity="loss",
        symptom="occasional 404 on runs and experiments that exist",
        what="the MLflow servers behind the proxy do not share one database",
        remedy="give them one database, which cannot be SQLite",
        reports=("mlflow#12783",),
        shows=Sign(_split),
        explains=(
            CauseId("slash-decode"),
            CauseId("path-lowercased"),
            CauseId("path-cut-at-semicolon"),
            CauseId("query-collapse"),
            CauseId("response-cached"),
        ),
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("replica-version-skew"),
        hop="mlflow",
        severity="contract",
        symptom="calls succeed and fail in turn, and some answers lack a field",
        what="the MLflow servers behind the proxy run different versions",
        remedy="deploy the same version on all of them",
        shows=Sign(_skewed),
        reddens=(r"test_same_mlflow_every_time",),
    ),
)
