"""Several MLflow servers behind one name act as one MLflow."""

from __future__ import annotations

import pytest

from fixtures.stack.container import ContainerStack
from mlflow_proxy_e2e.rest import Rest
from mlflow_proxy_e2e.target import Identity, Target

RUNS = "/api/2.0/mlflow/runs"
MOST_READS = 50  # on new connections, until each of two servers has answered one: all but one in 2^49 runs need fewer


def test_each_replica_reads_what_one_wrote(stack: ContainerStack, target: Target, platform: Identity) -> None:
    """A run created through the proxy exists at once, whichever server answers."""
    replicas = [name for name in stack.running if name.startswith("mlflow")]
    if len(replicas) == 1:
        pytest.skip("there is one MLflow server: --backend postgres --mlflow-replicas 2 has two")
    external = target.route("external")
    with Rest(external, platform) as caller:
        created = caller.post(f"{RUNS}/create", json={"experiment_id": "0"}).json()["run"]["info"]

    answered: set[str] = set()
    for _ in range(MOST_READS):
        with Rest(external, platform) as fresh:
            answer = fresh.get(f"{RUNS}/get?run_id={created['run_id']}")
        assert (answer.status_code, answer.json()["run"]["info"]) == (200, created)
        answered = {name for name in replicas if created["run_id"] in stack.running[name].log()}
        if answered == set(replicas):
            break

    assert answered == set(replicas)
