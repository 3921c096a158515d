"""GraphQL: what MLflow's pages ask in one query instead of many calls."""

from __future__ import annotations

from typing import Any

import pytest
from mlflow.entities import Metric, Param, RunTag

from mlflow_proxy_e2e.clients import Rest, signed_in
from mlflow_proxy_e2e.scratch import Scratch
from mlflow_proxy_e2e.target import Caller, Identity, Route, Target

pytestmark = pytest.mark.capability("graphql")

GRAPHQL = "/graphql"
# As MLflow's pages send them, but for fields of the same kind that are left out.
GET_RUN = """
query GetRun($data: MlflowGetRunInput!) @component(name: "MLflow.ExperimentRunTracking") {
  mlflowGetRun(input: $data) {
    apiError { helpUrl code message }
    run {
      info { runName status runUuid experimentId lifecycleStage }
      experiment { experimentId name }
      modelVersions { name version }
      data { metrics { key value step timestamp } params { key value } tags { key value } }
    }
  }
}
"""
SEARCH_RUNS = """
query SearchRuns($data: MlflowSearchRunsInput!) {
  mlflowSearchRuns(input: $data) {
    apiError { helpUrl code message }
    runs { info { runName } experiment { name } }
  }
}
"""
GET_EXPERIMENT = """
query MlflowGetExperimentQuery($input: MlflowGetExperimentInput!) @component(name: "MLflow.ExperimentRunTracking") {
  mlflowGetExperiment(input: $input) {
    apiError { code message }
    experiment { experimentId name lifecycleStage tags { key value } }
  }
}
"""


@pytest.fixture(scope="module")
def experiment(witness: Caller, shared_scratch: Scratch) -> dict[str, str]:
    """Return name and id of an experiment with two runs that no test changes, and the id of the first."""
    name = shared_scratch.experiment(" größer")
    with signed_in(*witness) as mlflow_itself:
        experiment_id = mlflow_itself.create_experiment(name)
        run_id = mlflow_itself.create_run(experiment_id, run_name="größer").info.run_id
        mlflow_itself.log_batch(run_id, [Metric("loss", 0.25, 1000, 7)], [Param("lr", "0.1")], [RunTag("team", "fraud & risk")])
        mlflow_itself.create_run(experiment_id, run_name="kleiner")
    return {"name": name, "id": experiment_id, "run_id": run_id}


def test_get_run(route: Route, control: Identity, witness: Caller, experiment: dict[str, str]) -> None:
    """The query behind a run's page gets all of it at once, and byte for byte what MLflow itself says."""
    found = _ask(route, control, witness, "GetRun", GET_RUN, {"data": {"runId": experiment["run_id"]}})

    run = found["data"]["mlflowGetRun"]["run"]
    assert (run["info"]["runName"], run["experiment"]["name"]) == ("größer", experiment["name"])
    assert run["data"]["metrics"] == [{"key": "loss", "value": 0.25, "step": "7", "timestamp": "1000"}]
    assert run["data"]["params"] == [{"key": "lr", "value": "0.1"}]
    assert {"key": "team", "value": "fraud & risk"} in run["data"]["tags"]


@pytest.mark.since("3.4")
def test_search_runs(route: Route, control: Identity, witness: Caller, experiment: dict[str, str]) -> None:
    """The query behind a comparison of runs finds what its filter describes, and the experiment of each."""
    search = {"experimentIds": [experiment["id"]], "filter": "metrics.loss < 1"}

    found = _ask(route, control, witness, "SearchRuns", SEARCH_RUNS, {"data": search})

    runs = found["data"]["mlflowSearchRuns"]["runs"]
    assert runs == [{"info": {"runName": "größer"}, "experiment": {"name": experiment["name"]}}]


def test_get_experiment(route: Route, control: Identity, witness: Caller, experiment: dict[str, str]) -> None:
    """The query behind an experiment's page gets it."""
    variables = {"input": {"experimentId": experiment["id"]}}

    found = _ask(route, control, witness, "MlflowGetExperimentQuery", GET_EXPERIMENT, variables)

    got = found["data"]["mlflowGetExperiment"]["experiment"]
    assert (got["experimentId"], got["name"], got["lifecycleStage"]) == (experiment["id"], experiment["name"], "active")


@pytest.mark.parametrize(
    ("operation", "query", "variables"),
    [
        pytest.param("GetRun", GET_RUN, {"data": {"runId": "0" * 32}}, id="unknown-run"),
        pytest.param("Nonsense", "query Nonsense { nonsense }", {}, id="unknown-field"),
    ],
)
def test_error(
    route: Route, control: Identity, witness: Caller, target: Target, operation: str, query: str, variables: dict[str, Any]
) -> None:
    """A query that MLflow cannot answer is told why in the body, beside a status of 200, as GraphQL has it."""
    answered = _ask(route, control, witness, operation, query, variables)

    # MLflow's own authorization takes what there is not for what may not be seen, and leaves it out without a word.
    silent = "basic" in target.carriers and "runId" in str(variables)
    assert len(answered.get("errors") or ()) == (0 if silent else 1)
    assert not any((answered["data"] or {}).values())


def _ask(
    route: Route, identity: Identity, witness: Caller, operation: str, query: str, variables: dict[str, Any]
) -> dict[str, Any]:
    """Send a query, and return what it is answered with, which is what MLflow itself answers."""
    body = {"operationName": operation, "query": query, "variables": variables}
    with Rest(*witness) as mlflow_itself, Rest(route, identity) as rest:
        expected, answer = mlflow_itself.post(GRAPHQL, json=body), rest.post(GRAPHQL, json=body)
    assert (expected.status_code, answer.status_code) == (200, 200)
    assert answer.content == expected.content
    found: dict[str, Any] = answer.json()
    return found
