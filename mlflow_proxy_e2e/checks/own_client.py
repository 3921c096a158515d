"""A user's program, run by itself: it writes with MLflow's client, reads the data back and prints it as JSON.

``python -m mlflow_proxy_e2e.checks.own_client experiment NAME`` or ``... model NAME``. The environment says where MLflow is and
which key to send.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping

from mlflow import MlflowClient


def experiment(name: str) -> dict[str, object]:
    """Create an experiment with a run, and return the data read back."""
    client = MlflowClient()
    run_id = client.create_run(client.create_experiment(name)).info.run_id
    client.log_param(run_id, "depth", "3")
    found = client.get_experiment_by_name(name)
    assert found
    return {"experiment_id": found.experiment_id, "params": client.get_run(run_id).data.params}


def model(name: str) -> dict[str, object]:
    """Register a model, and return the data read back."""
    client = MlflowClient()
    client.create_registered_model(name, description="scores payments")
    return {"description": client.get_registered_model(name).description}


WORK: Mapping[str, Callable[[str], dict[str, object]]] = {"experiment": experiment, "model": model}

if __name__ == "__main__":
    what, name = sys.argv[1:]
    print(json.dumps(WORK[what](name)))  # noqa: T201
