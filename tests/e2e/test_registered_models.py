"""The model registry: models, their versions, tags, aliases and stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
from mlflow import MlflowClient
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException

from mlflow_proxy_e2e.clients import Rest, signed_in
from mlflow_proxy_e2e.scratch import Scratch
from mlflow_proxy_e2e.target import Caller, Identity, Route

pytestmark = pytest.mark.capability("registry")

API = "/api/2.0/mlflow"


class Source(NamedTuple):
    """Where model versions come from: a run, and a folder among its artifacts, which need not exist."""

    uri: str
    run_id: str


class Shelf(NamedTuple):
    """Three registered models to be read, in alphabetical order. They alone carry the tag ``shelf`` with the value ``tag``.

    The first two have versions 1 and 2, the latter called "champion"; the names of the first and the last end in "-card".
    """

    tag: str
    models: tuple[str, str, str]


@pytest.fixture(scope="module")
def source(witness: Caller, shared_scratch: Scratch) -> Source:
    """Return where the versions under test come from."""
    with signed_in(*witness) as mlflow_itself:
        run_id = mlflow_itself.create_run(mlflow_itself.create_experiment(shared_scratch.experiment())).info.run_id
    return Source(f"runs:/{run_id}/model", run_id)


@pytest.fixture(scope="module")
def shelf(witness: Caller, shared_scratch: Scratch, source: Source) -> Shelf:
    """Return the models that tests read and that no test changes."""
    shelf = Shelf(
        shared_scratch.model(), (shared_scratch.model("-card"), shared_scratch.model("-loan"), shared_scratch.model("-card"))
    )
    with signed_in(*witness) as mlflow_itself:
        for name in shelf.models:
            mlflow_itself.create_registered_model(name, tags={"shelf": shelf.tag}, description="For reading.")
        for name in shelf.models[:2]:
            for _ in range(2):
                mlflow_itself.create_model_version(name, *source, tags={"shelf": shelf.tag})
            mlflow_itself.set_registered_model_alias(name, "champion", "2")
    return shelf


@pytest.fixture
def model(witness: Caller, scratch: Scratch, source: Source) -> str:
    """Return the name of a model of the test's own, tagged, with versions 1 and 2, of which 1 is tagged and called "champion"."""
    name = scratch.model()
    with signed_in(*witness) as mlflow_itself:
        mlflow_itself.create_registered_model(name, tags={"team": "fraud"})
        mlflow_itself.create_model_version(name, *source, tags={"team": "fraud"})
        mlflow_itself.create_model_version(name, *source)
        mlflow_itself.set_registered_model_alias(name, "champion", "1")
    return name


def test_create_registered_model(route: Route, can_write: Identity, witness: Caller, scratch: Scratch) -> None:
    """A model that is registered through a route is there, with its tags and description."""
    name = scratch.model()

    with signed_in(route, can_write) as client:
        client.create_registered_model(name, tags={"team": "fraud"}, description="Scores card payments.")

    created = _held(witness, name)
    assert (created.name, created.tags, created.description) == (name, {"team": "fraud"}, "Scores card payments.")


def test_create_model_version(route: Route, can_write: Identity, witness: Caller, model: str, source: Source) -> None:
    """A version that is added through a route is the next one, is ready, and knows where it comes from."""
    with signed_in(route, can_write) as client:
        client.create_model_version(model, *source, tags={"framework": "sklearn"}, description="Trained on March.")

    with signed_in(*witness) as mlflow_itself:
        created = mlflow_itself.get_model_version(model, "3")
    assert (created.source, created.run_id, created.status) == (source.uri, source.run_id, "READY")
    assert (created.tags, created.description) == ({"framework": "sklearn"}, "Trained on March.")


def test_rename_registered_model(route: Route, can_write: Identity, witness: Caller, model: str, scratch: Scratch) -> None:
    """A model that is renamed takes its versions and aliases along, and leaves its old name free."""
    new_name = scratch.model()

    with signed_in(route, can_write) as client:
        client.rename_registered_model(model, new_name)

    assert _versions(witness, new_name) == ["1", "2"]
    assert _held(witness, new_name).aliases == {"champion": "1"}
    assert _listed(witness, model) == []


def test_update_descriptions(route: Route, can_write: Identity, witness: Caller, model: str) -> None:
    """A model and a version can each be given a new description."""
    with signed_in(route, can_write) as client:
        client.update_registered_model(model, "Scores card payments.")
        client.update_model_version(model, "1", "Trained on March.")

    with signed_in(*witness) as mlflow_itself:
        assert mlflow_itself.get_registered_model(model).description == "Scores card payments."
        assert mlflow_itself.get_model_version(model, "1").description == "Trained on March."
        assert not mlflow_itself.get_model_version(model, "2").description


def test_set_tags(route: Route, can_write: Identity, witness: Caller, model: str) -> None:
    """Setting a tag of a model or of a version changes its value, or adds it, and leaves other tags and versions alone."""
    with signed_in(route, can_write) as client:
        client.set_registered_model_tag(model, "team", "risk & compliance")
        client.set_model_version_tag(model, "1", "reviewed by", "Zoë")

    with signed_in(*witness) as mlflow_itself:
        assert mlflow_itself.get_registered_model(model).tags == {"team": "risk & compliance"}
        assert mlflow_itself.get_model_version(model, "1").tags == {"team": "fraud", "reviewed by": "Zoë"}
        assert mlflow_itself.get_model_version(model, "2").tags == {}


def test_delete_tags(route: Route, can_write: Identity, witness: Caller, model: str) -> None:
    """A tag that is deleted from a model and from a version is gone from both."""
    with signed_in(route, can_write) as client:
        client.delete_registered_model_tag(model, "team")
        client.delete_model_version_tag(model, "1", "team")

    with signed_in(*witness) as mlflow_itself:
        assert mlflow_itself.get_registered_model(model).tags == {}
        assert mlflow_itself.get_model_version(model, "1").tags == {}


def test_set_alias(route: Route, can_write: Identity, witness: Caller, model: str) -> None:
    """A new alias stands beside those that there are; one that is set again names the other version at once, on the route too."""
    with signed_in(route, can_write) as client:
        before = client.get_model_version_by_alias(model, "champion")
        client.set_registered_model_alias(model, "challenger", "1")
        client.set_registered_model_alias(model, "champion", "2")
        after = client.get_model_version_by_alias(model, "champion")

    assert (before.version, after.version) == ("1", "2")
    assert _held(witness, model).aliases == {"challenger": "1", "champion": "2"}


def test_delete_alias(route: Route, can_write: Identity, witness: Caller, model: str) -> None:
    """An alias that is deleted names nothing any more; its version stays."""
    with signed_in(route, can_write) as client:
        client.delete_registered_model_alias(model, "champion")

    assert _held(witness, model).aliases == {}
    assert _versions(witness, model) == ["1", "2"]


def test_promote_with_plain_http(route: Route, can_write: Identity, witness: Caller, model: str) -> None:
    """A script without MLflow's client can find the newest version and make it the champion."""
    with Rest(route, can_write) as rest:
        query: dict[str, str | int] = {"filter": f"name = '{model}'", "order_by": "version_number DESC", "max_results": 1}
        newest = rest.get(f"{API}/model-versions/search", params=query).json()["model_versions"][0]
        promoted = rest.post(
            f"{API}/registered-models/alias", json={"name": model, "alias": "champion", "version": newest["version"]}
        )

    assert promoted.status_code == 200
    assert _held(witness, model).aliases == {"champion": "2"}


@pytest.mark.filterwarnings("ignore:.*transition_model_version_stage:FutureWarning")  # deprecated, and still in wide use
def test_transition_stage(route: Route, can_write: Identity, witness: Caller, model: str) -> None:
    """A version that is promoted to a stage archives the one that was in it, if that is asked for."""
    with signed_in(route, can_write) as client:
        client.transition_model_version_stage(model, "1", "Production")
        client.transition_model_version_stage(model, "2", "Production", archive_existing_versions=True)

    with signed_in(*witness) as mlflow_itself:
        stages = {version: mlflow_itself.get_model_version(model, version).current_stage for version in ("1", "2")}
    assert stages == {"1": "Archived", "2": "Production"}


@pytest.mark.since("3.6")  # older ones keep its aliases
def test_delete_model_version(route: Route, can_write: Identity, witness: Caller, model: str) -> None:
    """A version that is deleted is gone with its alias; the other version stays."""
    with signed_in(route, can_write) as client:
        client.delete_model_version(model, "1")

    assert _versions(witness, model) == ["2"]
    assert _held(witness, model).aliases == {}


def test_delete_registered_model(route: Route, can_write: Identity, witness: Caller, model: str) -> None:
    """A model that is deleted is gone, and its versions with it."""
    with signed_in(route, can_write) as client:
        client.delete_registered_model(model)

    assert _listed(witness, model) == []
    assert _versions(witness, model) == []


@pytest.mark.parametrize(
    "suffix",
    [
        pytest.param(" for card payments", id="spaces"),
        pytest.param("-größe-模型-🚀", id="unicode"),
        pytest.param(".v1..2", id="dots"),
        pytest.param("-100%20%2F", id="percent"),
        pytest.param("#1?a=b&c+d;e", id="delimiters"),
    ],
)
def test_model_name_is_kept(route: Route, control: Identity, witness: Caller, scratch: Scratch, suffix: str) -> None:
    """A model is listed under the very name that it was registered with, and found by it."""
    mark, name = scratch.model(), scratch.model(suffix)

    with signed_in(route, control) as client:
        client.create_registered_model(name, tags={"mark": mark})
        found = client.get_registered_model(name)

    with signed_in(*witness) as mlflow_itself:
        listed = mlflow_itself.search_registered_models(f"tags.mark = '{mark}'")
    assert [model.name for model in listed] == [name]
    assert found.name == name


def test_get_registered_model(route: Route, can_read: Identity, witness: Caller, shelf: Shelf) -> None:
    """Whoever may read is told of a model, its version, its alias and its files' place what MLflow itself tells."""
    with signed_in(route, can_read) as client:
        seen = _look_up(client, shelf.models[0])

    with signed_in(*witness) as mlflow_itself:
        held = _look_up(mlflow_itself, shelf.models[0])
    assert seen == held
    assert seen["by alias"].version == "2"


def test_search_registered_models(route: Route, can_read: Identity, shelf: Shelf) -> None:
    """Whoever may read finds exactly the models that meet a condition, in the order that was asked for."""
    first, _, last = shelf.models

    with signed_in(route, can_read) as client:
        found = client.search_registered_models(f"tags.shelf = '{shelf.tag}' AND name LIKE '%-card'", order_by=["name DESC"])

    assert [model.name for model in found] == [last, first]


def test_page_registered_models(route: Route, can_read: Identity, shelf: Shelf) -> None:
    """The pages of a search follow each other without a gap or a repetition, and end."""
    with signed_in(route, can_read) as client:
        first = client.search_registered_models(f"tags.shelf = '{shelf.tag}'", max_results=2)
        last = client.search_registered_models(f"tags.shelf = '{shelf.tag}'", max_results=2, page_token=first.token)

    assert ([model.name for model in first], [model.name for model in last]) == (list(shelf.models[:2]), [shelf.models[2]])
    assert not last.token


def test_order_model_versions(route: Route, can_read: Identity, shelf: Shelf) -> None:
    """Versions come ordered by two keys, so each of the two ``order_by`` parameters has arrived, in their order."""
    first, second, _ = shelf.models

    with signed_in(route, can_read) as client:
        found = client.search_model_versions(
            f"tags.shelf = '{shelf.tag}'", order_by=["name DESC", "version_number ASC"], max_results=10
        )

    assert [(version.name, version.version) for version in found] == [(second, "1"), (second, "2"), (first, "1"), (first, "2")]


def test_latest_versions(route: Route, can_read: Identity, shelf: Shelf) -> None:
    """Whoever may read is told the latest version, with GET and with POST: to MLflow both are the same question."""
    path, name = f"{API}/registered-models/get-latest-versions", shelf.models[0]

    with Rest(route, can_read) as rest:
        answers = rest.get(path, params={"name": name}), rest.post(path, json={"name": name})

    for answer in answers:
        assert answer.status_code == 200
        assert [version["version"] for version in answer.json()["model_versions"]] == ["2"]


class Mistake(NamedTuple):
    """A call that MLflow itself refuses, and how. In what it sends, {taken} is a model of the shelf and {free} is none."""

    method: str
    path: str
    sent: Mapping[str, str]
    status: int
    error_code: str


MISTAKES = {
    "alias-of-unknown-version": Mistake(
        "POST",
        "registered-models/alias",
        {"name": "{taken}", "alias": "x", "version": "99"},
        404,
        "RESOURCE_DOES_NOT_EXIST",
    ),
    "create-taken": Mistake("POST", "registered-models/create", {"name": "{taken}"}, 400, "RESOURCE_ALREADY_EXISTS"),
    "create-with-slash": Mistake("POST", "registered-models/create", {"name": "{free}/x"}, 400, "INVALID_PARAMETER_VALUE"),
    "delete-unknown": Mistake("DELETE", "registered-models/delete", {"name": "{free}"}, 404, "RESOURCE_DOES_NOT_EXIST"),
    "get-unknown": Mistake("GET", "registered-models/get", {"name": "{free}"}, 404, "RESOURCE_DOES_NOT_EXIST"),
    "get-unknown-alias": Mistake(
        "GET", "registered-models/alias", {"name": "{taken}", "alias": "nobody"}, 400, "INVALID_PARAMETER_VALUE"
    ),
    "get-unknown-version": Mistake(
        "GET", "model-versions/get", {"name": "{taken}", "version": "99"}, 404, "RESOURCE_DOES_NOT_EXIST"
    ),
    "rename-to-taken": Mistake(
        "POST", "registered-models/rename", {"name": "{taken}", "new_name": "{also_taken}"}, 400, "RESOURCE_ALREADY_EXISTS"
    ),
    "update-unknown": Mistake(
        "PATCH", "registered-models/update", {"name": "{free}", "description": "x"}, 404, "RESOURCE_DOES_NOT_EXIST"
    ),
}


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param(m, id=name, marks=pytest.mark.since("3.12") if name == "create-with-slash" else ())
        for name, m in MISTAKES.items()
    ],
)
def test_mistake_is_answered_by_mlflow(
    route: Route, control: Identity, witness: Caller, shelf: Shelf, scratch: Scratch, mistake: Mistake
) -> None:
    """A call that MLflow refuses is answered with MLflow's own status and error code, and changes nothing."""
    free, (taken, also_taken, _) = scratch.model(), shelf.models
    sent = {name: value.format(taken=taken, also_taken=also_taken, free=free) for name, value in mistake.sent.items()}
    before = _held(witness, taken)

    with Rest(route, control) as rest:
        how = {"params": sent} if mistake.method == "GET" else {"json": sent}
        answer = rest.request(mistake.method, f"{API}/{mistake.path}", **how)

    assert (answer.status_code, answer.json()["error_code"]) == (mistake.status, mistake.error_code)
    assert _held(witness, taken) == before
    assert _listed(witness, free) == []


def test_unknown_model_is_explained(route: Route, can_read: Identity, scratch: Scratch) -> None:
    """Who asks for a model that there is not gets an exception that says so from MLflow's client."""
    name = scratch.model()

    with signed_in(route, can_read) as client, pytest.raises(MlflowException, match=name) as unknown:
        client.get_registered_model(name)

    assert unknown.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def _look_up(client: MlflowClient, name: str) -> dict[str, Any]:
    """Return all that can be asked about one model that has an alias "champion"."""
    return {
        "model": client.get_registered_model(name),
        "version": client.get_model_version(name, "1"),
        "by alias": client.get_model_version_by_alias(name, "champion"),
        "files": client.get_model_version_download_uri(name, "1"),
    }


def _held(witness: Caller, name: str) -> RegisteredModel:
    with signed_in(*witness) as mlflow_itself:
        return mlflow_itself.get_registered_model(name)


def _listed(witness: Caller, name: str) -> list[str]:
    """Return the names of the models that are listed under a name: that one, or none."""
    with signed_in(*witness) as mlflow_itself:
        return [model.name for model in mlflow_itself.search_registered_models(f"name = '{name}'")]


def _versions(witness: Caller, name: str) -> list[str]:
    with signed_in(*witness) as mlflow_itself:
        return [version.version for version in mlflow_itself.search_model_versions(f"name = '{name}'", order_by=["version_number"])]
