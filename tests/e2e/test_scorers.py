"""Scorers: what an experiment's traces are judged by, kept in versions."""

from __future__ import annotations

import pytest
from mlflow.exceptions import MlflowException
from mlflow.genai.scorers import Guidelines, delete_scorer, get_scorer, list_scorers
from mlflow.genai.scorers.registry import list_scorer_versions

from mlflow_proxy_e2e.clients import signed_in
from mlflow_proxy_e2e.scratch import Scratch
from mlflow_proxy_e2e.target import Caller, Identity, Route

pytestmark = pytest.mark.capability("scorers")

FIRST, SECOND = "Be polite.", ["Be polite & brief.", "Größer is not better."]


@pytest.fixture(scope="module")
def shelf(witness: Caller, shared_scratch: Scratch) -> str:
    """Return an experiment with scorers that no test changes: "manners" in versions 1 and 2, and "honesty"."""
    return _experiment(witness, shared_scratch)


@pytest.fixture
def experiment(witness: Caller, scratch: Scratch) -> str:
    """Return an experiment of the test's own, with the same scorers."""
    return _experiment(witness, scratch)


def test_register_scorer(route: Route, control: Identity, witness: Caller, experiment: str) -> None:
    """A scorer that is registered through a route is there, and so is the next version of one of the same name."""
    with signed_in(route, control):
        Guidelines(name="style", guidelines=FIRST).register(experiment_id=experiment)
        Guidelines(name="style", guidelines=SECOND).register(experiment_id=experiment)

    assert _held(witness, experiment, "style") == {1: FIRST, 2: SECOND}


def test_get_scorer(route: Route, control: Identity, shelf: str) -> None:
    """Whoever may read gets a scorer as it was written, in its latest version unless another is asked for."""
    with signed_in(route, control):
        scorers = get_scorer(name="manners", experiment_id=shelf), get_scorer(name="manners", experiment_id=shelf, version=1)

    assert [scorer.guidelines for scorer in scorers if isinstance(scorer, Guidelines)] == [SECOND, FIRST]


def test_list_scorers(route: Route, control: Identity, shelf: str) -> None:
    """Whoever may read is told of every scorer of an experiment once, and of all versions of one."""
    with signed_in(route, control):
        scorers = list_scorers(experiment_id=shelf)
        versions = list_scorer_versions(experiment_id=shelf, name="manners")

    assert sorted(scorer.name for scorer in scorers) == ["honesty", "manners"]
    assert sorted(version for _, version in versions if version) == [1, 2]


def test_delete_version(route: Route, control: Identity, witness: Caller, experiment: str) -> None:
    """A version that is deleted is gone; the other is left."""
    with signed_in(route, control):
        delete_scorer(name="manners", experiment_id=experiment, version=1)

    assert _held(witness, experiment, "manners") == {2: SECOND}


def test_delete_scorer(route: Route, control: Identity, witness: Caller, experiment: str) -> None:
    """A scorer that is deleted is gone with all its versions; others stay."""
    with signed_in(route, control):
        delete_scorer(name="manners", experiment_id=experiment, version="all")

    with signed_in(*witness):
        left = list_scorers(experiment_id=experiment)
    assert [scorer.name for scorer in left] == ["honesty"]


def test_unknown_scorer(route: Route, control: Identity, shelf: str) -> None:
    """Who asks for a scorer that is not there is told so, and which."""
    with signed_in(route, control), pytest.raises(MlflowException, match="'taste'") as unknown:
        get_scorer(name="taste", experiment_id=shelf)

    assert unknown.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def _experiment(witness: Caller, scratch: Scratch) -> str:
    with signed_in(*witness) as mlflow_itself:
        experiment_id = mlflow_itself.create_experiment(scratch.experiment())
        for name, guidelines in (("manners", FIRST), ("honesty", FIRST), ("manners", SECOND)):
            Guidelines(name=name, guidelines=guidelines).register(experiment_id=experiment_id)
    return experiment_id


def _held(witness: Caller, experiment_id: str, name: str) -> dict[int | None, str | list[str]]:
    """Return the guidelines in each version of a scorer."""
    with signed_in(*witness):
        versions = list_scorer_versions(experiment_id=experiment_id, name=name)
    return {version: scorer.guidelines for scorer, version in versions if isinstance(scorer, Guidelines)}
