"""Answers that the proxy serves from a cache."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import WITHOUT_KEY
from mlflow_proxy_e2e.causes.snippets import snippets
from mlflow_proxy_e2e.facts.admission import is_kept_for_others, open_gate
from mlflow_proxy_e2e.facts.comparisons import in_sandbox
from mlflow_proxy_e2e.facts.facts import Facts
from mlflow_proxy_e2e.facts.question import Reply
from mlflow_proxy_e2e.facts.sandbox import Sandbox, get, post
from mlflow_proxy_e2e.facts.sign import NO, Reading, Shows, Sign
from mlflow_proxy_e2e.facts.stopped import kept_refusals
from mlflow_proxy_e2e.target import Route


def _kept_refusal(facts: Facts) -> Reading:
    """A good key is refused only what a request without a key has been refused before."""
    if not (kept := kept_refusals(facts)):
        return NO
    because = "the answer to the first caller is given to all others"
    routes = [reply.question.route for reply in kept]
    return Reading(Shows.YES, (*kept, because), facts.behind(routes), frozenset(map(str, routes)))


def _old_answer(facts: Facts, route: Route, own: Sandbox) -> Reply | None:
    """A read before and after a change: a cached answer does not show the change."""
    read = get(f"runs/get?run_id={own.run_ids[1]}&of={route}-{facts.token()}")
    facts.ask(route, read)
    mark = f"changed-{facts.token()}"
    change = post("runs/set-tag", {"run_id": own.run_ids[1], "key": "mark", "value": mark})
    changed = facts.ask_mlflow(route, change)
    after = facts.again(facts.question(route, read))
    return after if changed.status == after.status == 200 and mark.encode() not in after.body else None


CACHE_OFF = snippets(
    nginx="""
        location /mlflow/ {
            proxy_cache off;
        }
    """
)


CAUSES = (
    Cause(
        id=CauseId("response-cached"),
        hop="proxy",
        severity="open",
        symptom="callers get answers that were meant for another key, and do not see changes",
        what="the proxy caches answers and serves them to any caller",
        remedy="cache nothing that MLflow does not declare cacheable",
        explains=tuple(
            map(
                CauseId,
                (
                    *("answers-stale", "files-cached-for-all", "files-cached", "workspace-dropped", "path-of-another-gate"),
                    *("challenge-missing", "retry-after-missing", "ratelimit-as-401"),  # of refusals that are somebody else's
                ),
            )
        ),
        shows=Sign(_kept_refusal) | open_gate(lambda facts, _: is_kept_for_others(facts)),
        reddens=(
            r"test_fidelity_connections\.py",
            *WITHOUT_KEY,
        ),
        fixes=CACHE_OFF,
    ),
    Cause(
        id=CauseId("answers-stale"),
        hop="proxy",
        severity="loss",
        symptom="a change is not seen for a while by those who have read the same before",
        what="the proxy caches answers, though it checks the key first",
        remedy="cache nothing that MLflow does not declare cacheable",
        shows=in_sandbox(_old_answer),
        explains=tuple(map(CauseId, ("files-cached", "workspace-dropped", "conditions-dropped", "range-dropped"))),
        reddens=(r"test_fidelity_connections\.py", r"::test_\w*(update|delete|rename|set|log|overwrit|change)"),
        fixes=CACHE_OFF,
    ),
)
