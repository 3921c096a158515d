"""The model registry: models, their versions, tags, aliases and stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mlflow_proxy_e2e.rest import Rest
from mlflow_proxy_e2e.scratch import Scratch

pytestmark = pytest.mark.capability("registry")

API = "/api/2.0/mlflow"


class Source(NamedTuple):
    """The origin of model versions: a run, and a folder among its artifacts, which need not exist."""

    uri: str
    run_id: str


class ExistingModels(NamedTuple):
    """Three registered models, in alphabetical order. Only they have the tag ``collection`` with the value ``tag``.

    The first two have versions 1 and 2, the latter with the alias "champion"; the names of the first and the last end in "-card".
    """

    tag: str
    models: tuple[str, str, str]


@pytest.fixture(scope="module")
def source(truth: MlflowClient, shared_scratch: Scratch) -> Source:
    """Return the source of the versions under test."""
    run_id = truth.create_run(truth.create_experiment(shared_scratch.experiment())).info.run_id
    return Source(f"runs:/{run_id}/model", run_id)


@pytest.fixture(scope="module")
def existing(truth: MlflowClient, shared_scratch: Scratch, source: Source) -> ExistingModels:
    """Return models that tests read and no test changes."""
    existing = ExistingModels(
        shared_scratch.model(), (shared_scratch.model("-card"), shared_scratch.model("-loan"), shared_scratch.model("-card"))
    )
    for name in existing.models:
        truth.create_registered_model(name, tags={"collection": existing.tag}, description="For reading.")
    for name in existing.models[:2]:
        for _ in range(2):
            truth.create_model_version(name, *source, tags={"collection": existing.tag})
        truth.set_registered_model_alias(name, "champion", "2")
    return existing


@pytest.fixture
def model(truth: MlflowClient, scratch: Scratch, source: Source) -> str:
    """Return a tagged model of the test's own, with versions 1 and 2, of which 1 has a tag and an alias "champion"."""
    name = scratch.model()
    truth.create_registered_model(name, tags={"team": "fraud"})
    truth.create_model_version(name, *source, tags={"team": "fraud"})
    truth.create_model_version(name, *source)
    truth.set_registered_model_alias(name, "champion", "1")
    return name


def test_create_registered_model(as_writer: MlflowClient, truth: MlflowClient, scratch: Scratch) -> None:
    """A model registered through a route exists, with its tags and description."""
    name = scratch.model()

    as_writer.create_registered_model(name, tags={"team": "fraud"}, description="Scores card payments.")

    created = truth.get_registered_model(name)
    assert (created.name, created.tags, created.description) == (name, {"team": "fraud"}, "Scores card payments.")


def test_create_model_version(as_writer: MlflowClient, truth: MlflowClient, model: str, source: Source) -> None:
    """A version created through a route has the next number, is ready, and has its source and run."""
    as_writer.create_model_version(model, *source, tags={"framework": "sklearn"}, description="Trained on March.")

    created = truth.get_model_version(model, "3")
    assert (created.source, created.run_id, created.status) == (source.uri, source.run_id, "READY")
    assert (created.tags, created.description) == ({"framework": "sklearn"}, "Trained on March.")


def test_rename_registered_model(as_writer: MlflowClient, truth: MlflowClient, model: str, scratch: Scratch) -> None:
    """A renamed model keeps its versions and aliases, and its old name is free."""
    new_name = scratch.model()

    as_writer.rename_registered_model(model, new_name)

    assert _versions(truth, new_name) == ["1", "2"]
    assert truth.get_registered_model(new_name).aliases == {"champion": "1"}
    assert _models_named(truth, model) == []


def test_update_descriptions(as_writer: MlflowClient, truth: MlflowClient, model: str) -> None:
    """A model and a version can each be given a new description."""
    as_writer.update_registered_model(model, "Scores card payments.")
    as_writer.update_model_version(model, "1", "Trained on March.")

    assert truth.get_registered_model(model).description == "Scores card payments."
    assert truth.get_model_version(model, "1").description == "Trained on March."
    assert not truth.get_model_version(model, "2").description


def test_set_tags(as_writer: MlflowClient, truth: MlflowClient, model: str) -> None:
    """Setting a tag of a model or of a version changes its value or adds it; other tags and versions stay unchanged."""
    as_writer.set_registered_model_tag(model, "team", "risk & compliance")
    as_writer.set_model_version_tag(model, "1", "reviewed by", "Zoë")

    assert truth.get_registered_model(model).tags == {"team": "risk & compliance"}
    assert truth.get_model_version(model, "1").tags == {"team": "fraud", "reviewed by": "Zoë"}
    assert truth.get_model_version(model, "2").tags == {}


def test_delete_tags(as_writer: MlflowClient, truth: MlflowClient, model: str) -> None:
    """A tag deleted from a model and from a version is gone from both."""
    as_writer.delete_registered_model_tag(model, "team")
    as_writer.delete_model_version_tag(model, "1", "team")

    assert truth.get_registered_model(model).tags == {}
    assert truth.get_model_version(model, "1").tags == {}


def test_set_alias(as_writer: MlflowClient, truth: MlflowClient, model: str) -> None:
    """A new alias is added to the others; one that is set again points to the other version at once, on the route too."""
    before = as_writer.get_model_version_by_alias(model, "champion")
    as_writer.set_registered_model_alias(model, "challenger", "1")
    as_writer.set_registered_model_alias(model, "champion", "2")
    after = as_writer.get_model_version_by_alias(model, "champion")

    assert (before.version, after.version) == ("1", "2")
    assert truth.get_registered_model(model).aliases == {"challenger": "1", "champion": "2"}


def test_delete_alias(as_writer: MlflowClient, truth: MlflowClient, model: str) -> None:
    """A deleted alias is gone; its version stays."""
    as_writer.delete_registered_model_alias(model, "champion")

    assert truth.get_registered_model(model).aliases == {}
    assert _versions(truth, model) == ["1", "2"]


def test_promote_with_plain_http(writer_rest: Rest, truth: MlflowClient, model: str) -> None:
    """A script without MLflow's client can find the newest version and make it the champion."""
    query: dict[str, str | int] = {"filter": f"name = '{model}'", "order_by": "version_number DESC", "max_results": 1}
    newest = writer_rest.get(f"{API}/model-versions/search", params=query).json()["model_versions"][0]
    promoted = writer_rest.post(
        f"{API}/registered-models/alias", json={"name": model, "alias": "champion", "version": newest["version"]}
    )

    assert promoted.status_code == 200
    assert truth.get_registered_model(model).aliases == {"champion": "2"}


@pytest.mark.filterwarnings("ignore:.*transition_model_version_stage:FutureWarning")  # deprecated, and still in wide use
def test_transition_stage(as_writer: MlflowClient, truth: MlflowClient, model: str) -> None:
    """A version promoted to a stage archives the previous one in it, if requested."""
    as_writer.transition_model_version_stage(model, "1", "Production")
    as_writer.transition_model_version_stage(model, "2", "Production", archive_existing_versions=True)

    stages = {version: truth.get_model_version(model, version).current_stage for version in ("1", "2")}
    assert stages == {"1": "Archived", "2": "Production"}


@pytest.mark.since("3.6")  # older ones keep its aliases
def test_delete_model_version(as_writer: MlflowClient, truth: MlflowClient, model: str) -> None:
    """A deleted version is gone with its alias; the other version stays."""
    as_writer.delete_model_version(model, "1")

    assert _versions(truth, model) == ["2"]
    assert truth.get_registered_model(model).aliases == {}


def test_delete_registered_model(as_writer: MlflowClient, truth: MlflowClient, model: str) -> None:
    """A deleted model is gone, and its versions with it."""
    as_writer.delete_registered_model(model)

    assert _models_named(truth, model) == []
    assert _versions(truth, model) == []


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
def test_model_name_is_kept(client: MlflowClient, truth: MlflowClient, scratch: Scratch, suffix: str) -> None:
    """A model is listed under exactly the name it was registered with, and found by it."""
    mark, name = scratch.model(), scratch.model(suffix)

    client.create_registered_model(name, tags={"mark": mark})
    found = client.get_registered_model(name)

    listed = truth.search_registered_models(f"tags.mark = '{mark}'")
    assert [model.name for model in listed] == [name]
    assert found.name == name


def test_get_registered_model(as_reader: MlflowClient, truth: MlflowClient, existing: ExistingModels) -> None:
    """A model, its version, its alias and its files' location are read exactly as MLflow itself returns them."""
    seen = _look_up(as_reader, existing.models[0])

    held = _look_up(truth, existing.models[0])
    assert seen == held
    assert seen["by alias"].version == "2"


def test_search_registered_models(as_reader: MlflowClient, existing: ExistingModels) -> None:
    """A search finds exactly the models that match the filter, in the requested order."""
    first, _, last = existing.models

    found = as_reader.search_registered_models(f"tags.collection = '{existing.tag}' AND name LIKE '%-card'", order_by=["name DESC"])

    assert [model.name for model in found] == [last, first]


def test_page_registered_models(as_reader: MlflowClient, existing: ExistingModels) -> None:
    """The pages of a search have no gaps or repetitions, and come to an end."""
    first = as_reader.search_registered_models(f"tags.collection = '{existing.tag}'", max_results=2)
    last = as_reader.search_registered_models(f"tags.collection = '{existing.tag}'", max_results=2, page_token=first.token)

    assert ([model.name for model in first], [model.name for model in last]) == (list(existing.models[:2]), [existing.models[2]])
    assert not last.token


def test_order_model_versions(as_reader: MlflowClient, existing: ExistingModels) -> None:
    """Versions are ordered by two keys: both ``order_by`` parameters have arrived, in their order."""
    first, second, _ = existing.models

    found = as_reader.search_model_versions(
        f"tags.collection = '{existing.tag}'", order_by=["name DESC", "version_number ASC"], max_results=10
    )

    assert [(version.name, version.version) for version in found] == [(second, "1"), (second, "2"), (first, "1"), (first, "2")]


def test_latest_versions(reader_rest: Rest, existing: ExistingModels) -> None:
    """The latest version is returned to GET and to POST alike: for MLflow both are reads."""
    path, name = f"{API}/registered-models/get-latest-versions", existing.models[0]

    answers = reader_rest.get(path, params={"name": name}), reader_rest.post(path, json={"name": name})

    for answer in answers:
        assert answer.status_code == 200
        assert [version["version"] for version in answer.json()["model_versions"]] == ["2"]


class Mistake(NamedTuple):
    """A call that MLflow itself refuses, and how. In the request, {taken} is the name of a model and {free} of none."""

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
    rest: Rest, truth: MlflowClient, existing: ExistingModels, scratch: Scratch, mistake: Mistake
) -> None:
    """A call that MLflow refuses is answered with MLflow's own status and error code, and changes nothing."""
    free, (taken, also_taken, _) = scratch.model(), existing.models
    sent = {name: value.format(taken=taken, also_taken=also_taken, free=free) for name, value in mistake.sent.items()}
    before = truth.get_registered_model(taken)

    how = {"params": sent} if mistake.method == "GET" else {"json": sent}
    answer = rest.request(mistake.method, f"{API}/{mistake.path}", **how)

    assert (answer.status_code, answer.json()["error_code"]) == (mistake.status, mistake.error_code)
    assert truth.get_registered_model(taken) == before
    assert _models_named(truth, free) == []


def test_unknown_model_is_explained(as_reader: MlflowClient, scratch: Scratch) -> None:
    """For an unknown model, MLflow's client raises an exception that names it."""
    name = scratch.model()

    with pytest.raises(MlflowException, match=name) as unknown:
        as_reader.get_registered_model(name)

    assert unknown.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def _look_up(client: MlflowClient, name: str) -> dict[str, Any]:
    """Return everything that can be read of a model with the alias "champion"."""
    return {
        "model": client.get_registered_model(name),
        "version": client.get_model_version(name, "1"),
        "by alias": client.get_model_version_by_alias(name, "champion"),
        "files": client.get_model_version_download_uri(name, "1"),
    }


def _models_named(truth: MlflowClient, name: str) -> list[str]:
    """Return the names of the models listed under a name: that one, or none."""
    return [model.name for model in truth.search_registered_models(f"name = '{name}'")]


def _versions(truth: MlflowClient, name: str) -> list[str]:
    return [version.version for version in truth.search_model_versions(f"name = '{name}'", order_by=["version_number"])]
