"""Calls that the edge cuts off or refuses although MLflow would accept them."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import CONVERSATIONS, LARGE_UPLOADS, OPEN_CONNECTIONS, external
from mlflow_proxy_e2e.causes.proxy.headers import connection_closed
from mlflow_proxy_e2e.causes.proxy.limits import large_upload_refused
from mlflow_proxy_e2e.facts.facts import Facts
from mlflow_proxy_e2e.facts.outage import edge_fails, only_without_logs, waited_in_vain
from mlflow_proxy_e2e.facts.question import Reply
from mlflow_proxy_e2e.facts.sandbox import post
from mlflow_proxy_e2e.facts.sign import on_routes
from mlflow_proxy_e2e.facts.slow_calls import download_ended, upload_ended
from mlflow_proxy_e2e.facts.stopped import slow, stops
from mlflow_proxy_e2e.target import Route

SEARCH = post("runs/search", {"experiment_ids": [], "max_results": 1})
FILTER = post("runs/search", {"experiment_ids": [], "filter": "tags.a = 'x'' OR 1=1; DROP TABLE runs --'"})


def _suspicious(facts: Facts, route: Route) -> Reply | None:
    """A search whose filter looks like an attack, refused where another search is not. MLflow's own answer is 400."""
    reply = facts.ask(route, FILTER)
    return reply if reply.status in (403, 406, 418) and facts.ask(route, SEARCH).status == 200 else None


cut_by_edge = (edge_fails & slow & only_without_logs) | (waited_in_vain & stops(lambda _, seen: "edge" in seen.hops))


CAUSES = (
    Cause(
        id=CauseId("idle-timeout"),
        hop="edge",
        severity="down",
        symptom="calls with a pause are cut off, always after the same time",
        what="the edge's idle timeout is shorter than such pauses",
        remedy="raise the idle timeout above the longest pause; MLflow's client waits two minutes",
        reports=("mlflow#7564",),
        shows=upload_ended | cut_by_edge,
        explains=(
            CauseId("edge-timeout-too-short"),
            CauseId("timeout-too-short"),
        ),
        reddens=(external(r"test_slow_calls\.py::test_upload_with_pause"),),
    ),
    Cause(
        id=CauseId("edge-timeout-too-short"),
        hop="edge",
        severity="down",
        symptom="large downloads end early, always after the same time",
        what="the edge limits how long a whole call may take",
        remedy="limit idle time instead",
        reports=("mlflow#7564",),
        shows=download_ended.at("edge"),
        reddens=(external(r"test_slow_calls\.py", r"test_artifacts\.py::test_large_file"),),
    ),
    Cause(
        id=CauseId("edge-body-size-limit"),
        hop="edge",
        severity="down",
        symptom="413 on large uploads, while small ones work",
        what="the edge limits the size of request bodies",
        remedy="lift the limit for MLflow's artifact paths",
        reports=("mlflow#10332",),
        shows=large_upload_refused.at("edge"),
        reddens=(external(*LARGE_UPLOADS),),
    ),
    Cause(
        id=CauseId("waf-blocks"),
        hop="edge",
        severity="down",
        symptom="403 in HTML on searches with a filter, while others work",
        what="a web application firewall mistakes MLflow's filters for SQL injection",
        remedy="exempt MLflow's API from that rule",
        shows=on_routes(_suspicious),
        reddens=(external(r"::test_(search|page)_", CONVERSATIONS, r"test_fidelity_(names|json)\.py"),),
    ),
    Cause(
        id=CauseId("edge-keep-alive-off"),
        hop="edge",
        severity="hardening",
        symptom="every call is slow to start",
        what="the edge closes the connection after each answer",
        remedy="let clients keep their connections open",
        shows=connection_closed.at("edge"),
        reddens=(external(*OPEN_CONNECTIONS),),
    ),
)
