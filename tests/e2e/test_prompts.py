"""Prompts: registered, loaded by version and by alias, found, tagged and deleted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest
from mlflow import MlflowClient, genai
from mlflow.exceptions import MlflowException

from mlflow_proxy_e2e.clients import signed_in
from mlflow_proxy_e2e.scratch import Scratch
from mlflow_proxy_e2e.target import Caller, Identity, Route

pytestmark = pytest.mark.capability("prompts", "registry")

TEXT = "Is {{number}} größer than 50 %?\nAnswer & explain."
CHAT = [{"role": "system", "content": "Be {{style}}."}, {"role": "user", "content": "{{question}}"}]
FORMAT = {"type": "object", "properties": {"answer": {"type": "number"}}}
FRESH = 0  # seconds for which a prompt that the client has loaded before is good enough: another caller may have loaded it


class Shelf(NamedTuple):
    """Two prompts to be read, in alphabetical order. The first has versions 1 and 2, of which 1 is called "champion"."""

    names: tuple[str, str]
    team: str


@pytest.fixture(scope="module")
def shelf(witness: Caller, shared_scratch: Scratch) -> Shelf:
    """Return the prompts that tests read and that no test changes. They alone have the tag ``team`` with that value."""
    shelf = Shelf((shared_scratch.prompt(), shared_scratch.prompt()), shared_scratch.prompt())
    with _signed_in(*witness):
        for name in shelf.names:
            genai.register_prompt(name, TEXT, tags={"team": shelf.team})
        genai.register_prompt(shelf.names[0], CHAT)
        genai.set_prompt_alias(shelf.names[0], "champion", 1)
    return shelf


@pytest.fixture
def prompt(witness: Caller, scratch: Scratch) -> str:
    """Return the name of a prompt of the test's own, tagged, with versions 1 and 2, of which 1 is called "champion"."""
    name = scratch.prompt()
    with _signed_in(*witness):
        genai.register_prompt(name, TEXT, tags={"team": "fraud"})
        genai.register_prompt(name, CHAT)
        genai.set_prompt_alias(name, "champion", 1)
    return name


def test_register_prompt(route: Route, control: Identity, witness: Caller, scratch: Scratch) -> None:
    """A prompt that is registered through a route is there, with each of its versions as it was written."""
    name = scratch.prompt()

    with _signed_in(route, control):
        genai.register_prompt(name, TEXT, commit_message="First try.", tags={"team": "fraud"})
        genai.register_prompt(name, CHAT, commit_message="As a chat.", response_format=FORMAT)

    with _signed_in(*witness) as mlflow_itself:
        text, chat = (mlflow_itself.get_prompt_version(name, version) for version in (1, 2))
        tags = mlflow_itself.get_prompt(name).tags
    assert (text.template, text.commit_message) == (TEXT, "First try.")
    assert (chat.template, chat.commit_message, chat.response_format) == (CHAT, "As a chat.", FORMAT)
    assert tags["team"] == "fraud"


def test_prompt_of_experiment(
    route: Route, control: Identity, witness: Caller, scratch: Scratch, experiment_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt that is registered while working on an experiment is found as that experiment's: the client sees to it by itself."""
    name = scratch.prompt()
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment_id)

    with _signed_in(route, control):
        genai.register_prompt(name, TEXT)

    with _signed_in(*witness):
        found = genai.search_prompts(f"experiment_id = '{experiment_id}' AND name = '{name}'")
    assert [prompt.name for prompt in found] == [name]


@pytest.mark.since("3.4")
def test_load_prompt(route: Route, control: Identity, shelf: Shelf) -> None:
    """Whoever may read loads a prompt by its version, by an alias, or the latest, ready to be filled in."""
    name = shelf.names[0]

    with _signed_in(route, control):
        by_version = genai.load_prompt(name, version=2, cache_ttl_seconds=FRESH)
        by_alias = genai.load_prompt(f"prompts:/{name}@champion", cache_ttl_seconds=FRESH)
        latest = genai.load_prompt(f"prompts:/{name}@latest", cache_ttl_seconds=FRESH)

    assert [(loaded.version, loaded.template) for loaded in (by_version, by_alias, latest)] == [(2, CHAT), (1, TEXT), (2, CHAT)]
    assert by_alias.format(number=51) == "Is 51 größer than 50 %?\nAnswer & explain."


def test_search_prompts(route: Route, control: Identity, shelf: Shelf) -> None:
    """Whoever may read finds exactly the prompts that meet a condition; nobody finds them among the registered models."""
    with _signed_in(route, control) as client:
        prompts = genai.search_prompts(f"tags.team = '{shelf.team}'")
        versions = client.search_prompt_versions(shelf.names[0])
        models = client.search_registered_models(f"tags.team = '{shelf.team}'")

    assert sorted(prompt.name for prompt in prompts) == sorted(shelf.names)
    assert sorted(version.version for version in versions) == [1, 2]
    assert list(models) == []


def test_set_alias(route: Route, control: Identity, witness: Caller, prompt: str) -> None:
    """An alias that is set anew points to the other version, and one that is deleted to none."""
    with _signed_in(route, control):
        genai.set_prompt_alias(prompt, "champion", 2)
    assert _aliases(witness, prompt) == {1: [], 2: ["champion"]}

    with _signed_in(route, control):
        genai.delete_prompt_alias(prompt, "champion")
    assert _aliases(witness, prompt) == {1: [], 2: []}


def test_tag_prompt(route: Route, control: Identity, witness: Caller, prompt: str) -> None:
    """A tag of a prompt or of a version is set or deleted, and other tags and versions are left alone."""
    with _signed_in(*witness) as mlflow_itself:
        before = mlflow_itself.get_prompt(prompt).tags

    with _signed_in(route, control):
        genai.set_prompt_tag(prompt, "reviewed by", "Zoë & co")
        genai.delete_prompt_tag(prompt, "team")
        genai.set_prompt_version_tag(prompt, 2, "stage", "final")
        genai.delete_prompt_version_tag(prompt, 1, "team")

    expected = {**before, "reviewed by": "Zoë & co"}
    del expected["team"]
    with _signed_in(*witness) as mlflow_itself:
        assert mlflow_itself.get_prompt(prompt).tags == expected
        assert [mlflow_itself.get_prompt_version(prompt, version).tags for version in (1, 2)] == [{}, {"stage": "final"}]


def test_delete_prompt(route: Route, control: Identity, witness: Caller, prompt: str) -> None:
    """A version that is deleted leaves the others, and a prompt that is deleted takes them along."""
    with _signed_in(route, control) as client:
        client.delete_prompt_version(prompt, "1")
    with _signed_in(*witness) as mlflow_itself:
        assert [version.version for version in mlflow_itself.search_prompt_versions(prompt)] == [2]

    with _signed_in(route, control) as client:
        client.delete_prompt(prompt)
    with _signed_in(*witness) as mlflow_itself:
        assert list(mlflow_itself.search_prompts(f"name = '{prompt}'")) == []
        assert list(mlflow_itself.search_model_versions(f"name = '{prompt}'")) == []


def test_prompt_is_no_model(route: Route, control: Identity, witness: Caller, scratch: Scratch) -> None:
    """A name that a registered model has is refused to a prompt, and the model keeps what it is."""
    name = scratch.model()
    with _signed_in(*witness) as mlflow_itself:
        mlflow_itself.create_registered_model(name, tags={"team": "fraud"})

    with _signed_in(route, control), pytest.raises(MlflowException, match=name) as refusal:
        genai.register_prompt(name, TEXT)

    assert refusal.value.error_code == "INVALID_PARAMETER_VALUE"
    with _signed_in(*witness) as mlflow_itself:
        model = mlflow_itself.get_registered_model(name)
    assert (model.tags, model.latest_versions) == ({"team": "fraud"}, [])


def test_unknown_prompt(route: Route, control: Identity, shelf: Shelf) -> None:
    """Who loads a version that is not there is told so, unless they said that they would do without."""
    name = shelf.names[0]

    with _signed_in(route, control):
        assert genai.load_prompt(name, version=3, allow_missing=True) is None
        with pytest.raises(MlflowException, match=name) as unknown:
            genai.load_prompt(name, version=3)

    assert unknown.value.error_code == "RESOURCE_DOES_NOT_EXIST"


@contextmanager
def _signed_in(route: Route, identity: Identity | None) -> Iterator[MlflowClient]:
    """Do as ``signed_in``, and let the client finish, as the same identity, what it does with prompts in the background.

    When a prompt is registered or loaded, a thread of the client's tags it with the current experiment, with whatever key the
    process has by then.
    """
    with signed_in(route, identity) as client:
        try:
            yield client
        finally:
            for thread in threading.enumerate():
                if thread.name.startswith("link_prompt"):
                    thread.join()


def _aliases(witness: Caller, prompt: str) -> dict[int, list[str]]:
    with _signed_in(*witness) as mlflow_itself:
        return {version: mlflow_itself.get_prompt_version(prompt, version).aliases for version in (1, 2)}
