"""GraphQL: one query from MLflow's pages instead of many calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from mlflow_proxy_e2e.rest import Rest
from mlflow_proxy_e2e.scratch import Scratch
from mlflow_proxy_e2e.target import Target

pytestmark = pytest.mark.capability("graphql")

GRAPHQL = "/graphql"
Ask = Callable[[str, str, dict[str, Any]], dict[str, Any]]
# As MLflow's pages send them, except that some fields of the same kind are left out.
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
def experiment(truth: MlflowClient, shared_scratch: Scratch) -> dict[str, str]:
    """Return the name and id of an experiment with two runs that no test changes, and the id of the first run."""
    name = shared_scratch.experiment(" größer")
    experiment_id = truth.create_experiment(name)
    run_id = truth.create_run(experiment_id, run_name="größer").info.run_id
    truth.log_batch(run_id, [Metric("loss", 0.25, 1000, 7)], [Param("lr", "0.1")], [RunTag("team", "fraud & risk")])
    truth.create_run(experiment_id, run_name="kleiner")
    return {"name": name, "id": experiment_id, "run_id": run_id}


@pytest.fixture
def ask(rest: Rest, truth_rest: Rest) -> Ask:
    """Return a function that sends an operation's query and variables, and returns the answer, which is MLflow's own."""

    def ask(operation: str, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        body = {"operationName": operation, "query": query, "variables": variables}
        expected, answer = truth_rest.post(GRAPHQL, json=body), rest.post(GRAPHQL, json=body)
        assert (expected.status_code, answer.status_code) == (200, 200)
        assert answer.content == expected.content
        found: dict[str, Any] = answer.json()
        return found

    return ask


def test_get_run(ask: Ask, experiment: dict[str, str]) -> None:
    """The query of a run's page returns the whole run at once, byte for byte as MLflow itself does."""
    found = ask("GetRun", GET_RUN, {"data": {"runId": experiment["run_id"]}})

    run = found["data"]["mlflowGetRun"]["run"]
    assert (run["info"]["runName"], run["experiment"]["name"]) == ("größer", experiment["name"])
    assert run["data"]["metrics"] == [{"key": "loss", "value": 0.25, "step": "7", "timestamp": "1000"}]
    assert run["data"]["params"] == [{"key": "lr", "value": "0.1"}]
    assert {"key": "team", "value": "fraud & risk"} in run["data"]["tags"]


@pytest.mark.since("3.4")
def test_search_runs(ask: Ask, experiment: dict[str, str]) -> None:
    """The query of the comparison of runs finds exactly the runs that match the filter, each with its experiment."""
    search = {"experimentIds": [experiment["id"]], "filter": "metrics.loss < 1"}

    found = ask("SearchRuns", SEARCH_RUNS, {"data": search})

    runs = found["data"]["mlflowSearchRuns"]["runs"]
    assert runs == [{"info": {"runName": "größer"}, "experiment": {"name": experiment["name"]}}]


def test_get_experiment(ask: Ask, experiment: dict[str, str]) -> None:
    """The query of an experiment's page returns the experiment."""
    variables = {"input": {"experimentId": experiment["id"]}}

    found = ask("MlflowGetExperimentQuery", GET_EXPERIMENT, variables)

    got = found["data"]["mlflowGetExperiment"]["experiment"]
    assert (got["experimentId"], got["name"], got["lifecycleStage"]) == (experiment["id"], experiment["name"], "active")


@pytest.mark.parametrize(
    ("operation", "query", "variables"),
    [
        pytest.param("GetRun", GET_RUN, {"data": {"runId": "0" * 32}}, id="unknown-run"),
        pytest.param("Nonsense", "query Nonsense { nonsense }", {}, id="unknown-field"),
    ],
)
def test_error(ask: Ask, target: Target, operation: str, query: str, variables: dict[str, Any]) -> None:
    """A query that MLflow cannot answer gets the status 200 and an error in the body, as GraphQL specifies."""
    answered = ask(operation, query, variables)

    # MLflow's own authorization treats an unknown run like one that may not be seen, and omits it without an error.
    silent = "basic" in target.carriers and "runId" in str(variables)
    assert len(answered.get("errors") or ()) == (0 if silent else 1)
    assert not any((answered["data"] or {}).values())
