"""Scorers: versioned judges of an experiment's traces."""

from __future__ import annotations

import pytest
from mlflow.exceptions import MlflowException
from mlflow.genai.scorers import Guidelines, delete_scorer, get_scorer, list_scorers
from mlflow.genai.scorers.registry import list_scorer_versions

from mlflow_proxy_e2e.clients import signed_in
from mlflow_proxy_e2e.scratch import Scratch
from mlflow_proxy_e2e.target import Target

pytestmark = [pytest.mark.capability("scorers"), pytest.mark.usefixtures("signed_in_client")]

FIRST, SECOND = "Be polite.", ["Be polite & brief.", "Größer is not better."]


@pytest.fixture(scope="module")
def existing(target: Target, shared_scratch: Scratch) -> str:
    """Return an experiment with scorers that no test changes: "manners" in versions 1 and 2, and "honesty"."""
    return _create_experiment(target, shared_scratch)


@pytest.fixture
def experiment(target: Target, scratch: Scratch) -> str:
    """Return an experiment of the test's own, with the same scorers."""
    return _create_experiment(target, scratch)


def test_register_scorer(target: Target, experiment: str) -> None:
    """A scorer registered through a route exists, and registered again gets a second version."""
    Guidelines(name="style", guidelines=FIRST).register(experiment_id=experiment)
    Guidelines(name="style", guidelines=SECOND).register(experiment_id=experiment)

    assert _guidelines(target, experiment, "style") == {1: FIRST, 2: SECOND}


def test_get_scorer(existing: str) -> None:
    """A scorer is read as it was written, in its latest version unless another is requested."""
    scorers = get_scorer(name="manners", experiment_id=existing), get_scorer(name="manners", experiment_id=existing, version=1)

    assert [scorer.guidelines for scorer in scorers if isinstance(scorer, Guidelines)] == [SECOND, FIRST]


def test_list_scorers(existing: str) -> None:
    """Every scorer of an experiment is listed once, and so is every version of one scorer."""
    scorers = list_scorers(experiment_id=existing)
    versions = list_scorer_versions(experiment_id=existing, name="manners")

    assert sorted(scorer.name for scorer in scorers) == ["honesty", "manners"]
    assert sorted(version for _, version in versions if version) == [1, 2]


def test_delete_version(target: Target, experiment: str) -> None:
    """A deleted version is gone; the other stays."""
    delete_scorer(name="manners", experiment_id=experiment, version=1)

    assert _guidelines(target, experiment, "manners") == {2: SECOND}


def test_delete_scorer(target: Target, experiment: str) -> None:
    """A deleted scorer is gone with all its versions; others stay."""
    delete_scorer(name="manners", experiment_id=experiment, version="all")

    with signed_in(*target.truth):
        left = list_scorers(experiment_id=experiment)
    assert [scorer.name for scorer in left] == ["honesty"]


def test_unknown_scorer(existing: str) -> None:
    """A request for an unknown scorer fails with an error that names it."""
    with pytest.raises(MlflowException, match="'taste'") as unknown:
        get_scorer(name="taste", experiment_id=existing)

    assert unknown.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def _create_experiment(target: Target, scratch: Scratch) -> str:
    with signed_in(*target.truth) as client:
        experiment_id = client.create_experiment(scratch.experiment())
        for name, guidelines in (("manners", FIRST), ("honesty", FIRST), ("manners", SECOND)):
            Guidelines(name=name, guidelines=guidelines).register(experiment_id=experiment_id)
    return experiment_id


def _guidelines(target: Target, experiment_id: str, name: str) -> dict[int | None, str | list[str]]:
    """Return the guidelines in each version of a scorer."""
    with signed_in(*target.truth):
        versions = list_scorer_versions(experiment_id=experiment_id, name=name)
    return {version: scorer.guidelines for scorer, version in versions if isinstance(scorer, Guidelines)}
