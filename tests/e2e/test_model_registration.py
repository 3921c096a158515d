"""A model from training to use: trained, logged, registered, given an alias, and loaded by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.models import ModelSignature, infer_signature
from mlflow.models.model import ModelInfo

from mlflow_proxy_e2e.clients import signed_in
from mlflow_proxy_e2e.rest import Rest
from mlflow_proxy_e2e.scratch import Scratch
from mlflow_proxy_e2e.target import Identity, Route, Target

# MLflow 3 logs every model as an entity of its own, and its files go through the server.
pytestmark = pytest.mark.capability("registry", "artifacts", "logged-models")

INPUTS = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
OUTPUTS = np.array([1.0, 3.0, 4.0, 6.0])


class Trained(NamedTuple):
    """A fitted estimator, what it predicts for INPUTS, and the signature that follows."""

    estimator: Any
    predictions: np.ndarray
    signature: ModelSignature


@pytest.fixture(scope="session")
def trained() -> Trained:
    """Train a model that is as small as possible."""
    # Takes seconds to import: not while tests are collected.
    from sklearn.linear_model import LinearRegression

    estimator = LinearRegression().fit(INPUTS, OUTPUTS)
    predictions = estimator.predict(INPUTS)
    return Trained(estimator, predictions, infer_signature(INPUTS, predictions))


@pytest.fixture(scope="module")
def registered_through(control: Identity, shared_scratch: Scratch, experiment_id: str, trained: Trained) -> Callable[[Route], str]:
    """Return a function that registers a model with the alias "champion" through a route, once, and returns its name."""

    @cache
    def register(route: Route) -> str:
        name = shared_scratch.model()
        with signed_in(route, control):
            _log_and_register(trained, experiment_id, name)
        return name

    return register


@pytest.fixture
def other_route(route: Route, target: Target) -> Route:
    """Return another route than the one under test, if there is one."""
    return next((other for other in target.routes if other != route), route)


@pytest.fixture
def autologged(scratch: Scratch, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Log and register scikit-learn's models automatically during the test; return the name of the registered model."""
    # MLflow infers a model's requirements by loading it in another interpreter: that takes seconds and tests nothing here.
    monkeypatch.setattr(mlflow.models, "infer_pip_requirements", lambda *_, fallback, **__: fallback)
    name = scratch.model()
    try:
        mlflow.sklearn.autolog(registered_model_name=name)
        yield name
    finally:
        mlflow.sklearn.autolog(disable=True)


@pytest.mark.usefixtures("signed_in_writer")
def test_register_and_load_by_alias(truth: MlflowClient, scratch: Scratch, experiment_id: str, trained: Trained) -> None:
    """A model that was logged, registered and given an alias is loaded by it, predicts the same, and names its run."""
    name = scratch.model()

    logged = _log_and_register(trained, experiment_id, name)
    loaded = mlflow.pyfunc.load_model(f"models:/{name}@champion")

    np.testing.assert_array_equal(loaded.predict(INPUTS), trained.predictions)
    np.testing.assert_array_equal(loaded.input_example, INPUTS)
    assert loaded.metadata.signature == trained.signature
    version = truth.get_model_version_by_alias(name, "champion")
    model = truth.get_logged_model(logged.model_id)
    assert (version.version, version.status, version.source) == ("1", "READY", logged.model_uri)
    assert (version.run_id, model.source_run_id, model.status) == (logged.run_id, logged.run_id, LoggedModelStatus.READY)


def test_load_what_another_registered(
    route: Route, can_read: Identity, other_route: Route, registered_through: Callable[[Route], str], trained: Trained
) -> None:
    """A model that another key registered, on another route if there is one, is loaded by its alias."""
    name = registered_through(other_route)

    with signed_in(route, can_read) as client:
        versions = client.search_model_versions(f"name = '{name}'")
        loaded = mlflow.sklearn.load_model(f"models:/{name}@champion")

    assert [version.version for version in versions] == ["1"]
    np.testing.assert_array_equal(loaded.predict(INPUTS), trained.predictions)


def test_download_file_of_version(route: Route, reader_rest: Rest, registered_through: Callable[[Route], str]) -> None:
    """A file of a registered version is downloaded with one GET outside any API path, as the browser does."""
    file = {"name": registered_through(route), "version": "1", "path": "MLmodel"}

    answer = reader_rest.get("/model-versions/get-artifact", params=file)

    assert answer.status_code == 200
    assert "loader_module: mlflow.sklearn" in answer.text


@pytest.mark.usefixtures("signed_in_writer")
def test_autolog(truth: MlflowClient, autologged: str, experiment_id: str, trained: Trained) -> None:
    """With autologging on, training alone logs parameters and metrics, and registers a model that predicts the same."""
    with mlflow.start_run(experiment_id=experiment_id) as run:
        type(trained.estimator)().fit(INPUTS, OUTPUTS)
    loaded = mlflow.sklearn.load_model(f"models:/{autologged}/1")

    np.testing.assert_array_equal(loaded.predict(INPUTS), trained.predictions)
    data = truth.get_run(run.info.run_id).data
    version = truth.get_model_version(autologged, "1")
    assert (data.params["fit_intercept"], data.tags["estimator_name"]) == ("True", "LinearRegression")
    assert data.metrics["training_r2_score"] == 1.0
    assert (version.run_id, version.status) == (run.info.run_id, "READY")


def _log_and_register(trained: Trained, experiment_id: str, name: str) -> ModelInfo:
    """Log a trained model in a new run, register it and give it the alias "champion", as the identity that is signed in."""
    with mlflow.start_run(experiment_id=experiment_id):
        logged: ModelInfo = mlflow.sklearn.log_model(
            trained.estimator,
            name="classifier",
            signature=trained.signature,
            input_example=INPUTS,
            pip_requirements=["scikit-learn"],  # otherwise inferred by loading the model in another interpreter
        )
    version = mlflow.register_model(logged.model_uri, name)
    MlflowClient().set_registered_model_alias(name, "champion", version.version)
    return logged
