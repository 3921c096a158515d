"""Prompts: registered, loaded by version and by alias, found, tagged and deleted."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import pytest
from mlflow import MlflowClient, genai
from mlflow.entities.model_registry import PromptVersion
from mlflow.exceptions import MlflowException

from mlflow_proxy_e2e.clients import signed_in
from mlflow_proxy_e2e.scratch import Scratch
from mlflow_proxy_e2e.target import Target

pytestmark = [pytest.mark.capability("prompts", "registry"), pytest.mark.usefixtures("signed_in_client")]

TEXT = "Is {{number}} größer than 50 %?\nAnswer & explain."
CHAT = [{"role": "system", "content": "Be {{style}}."}, {"role": "user", "content": "{{question}}"}]
FORMAT = {"type": "object", "properties": {"answer": {"type": "number"}}}


class ExistingPrompts(NamedTuple):
    """Two prompts, in alphabetical order. The first has versions 1 and 2, of which 1 has the alias "champion"."""

    names: tuple[str, str]
    team: str


@pytest.fixture(scope="module")
def existing(target: Target, shared_scratch: Scratch) -> ExistingPrompts:
    """Return prompts that tests read and no test changes. Only they have the tag ``team`` with that value."""
    existing = ExistingPrompts((shared_scratch.prompt(), shared_scratch.prompt()), shared_scratch.prompt())
    with signed_in(*target.truth):
        for name in existing.names:
            _register(name, TEXT, tags={"team": existing.team})
        _register(existing.names[0], CHAT)
        genai.set_prompt_alias(existing.names[0], "champion", 1)
    return existing


@pytest.fixture
def prompt(target: Target, scratch: Scratch) -> str:
    """Return the name of a prompt of the test's own, tagged, with versions 1 and 2, of which 1 has the alias "champion"."""
    name = scratch.prompt()
    with signed_in(*target.truth):
        _register(name, TEXT, tags={"team": "fraud"})
        _register(name, CHAT)
        genai.set_prompt_alias(name, "champion", 1)
    return name


def test_register_prompt(truth: MlflowClient, scratch: Scratch) -> None:
    """A prompt registered through a route exists, with each of its versions as it was written."""
    name = scratch.prompt()

    _register(name, TEXT, commit_message="First try.", tags={"team": "fraud"})
    _register(name, CHAT, commit_message="As a chat.", response_format=FORMAT)

    text, chat = (truth.get_prompt_version(name, version) for version in (1, 2))
    assert (text.template, text.commit_message) == (TEXT, "First try.")
    assert (chat.template, chat.commit_message, chat.response_format) == (CHAT, "As a chat.", FORMAT)
    assert truth.get_prompt(name).tags["team"] == "fraud"


def test_prompt_of_experiment(truth: MlflowClient, scratch: Scratch, experiment_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt registered while an experiment is set is linked to that experiment, which the client does by itself."""
    name = scratch.prompt()
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment_id)

    _register(name, TEXT)

    found = truth.search_prompts(f"experiment_id = '{experiment_id}' AND name = '{name}'")
    assert [prompt.name for prompt in found] == [name]


@pytest.mark.since("3.4")
def test_load_prompt(existing: ExistingPrompts) -> None:
    """A prompt is loaded by version, by alias, or as the latest version, ready to be formatted."""
    name = existing.names[0]

    by_version = _load(name, version=2)
    by_alias = _load(f"prompts:/{name}@champion")
    latest = _load(f"prompts:/{name}@latest")

    assert [(loaded.version, loaded.template) for loaded in (by_version, by_alias, latest)] == [(2, CHAT), (1, TEXT), (2, CHAT)]
    assert by_alias.format(number=51) == "Is 51 größer than 50 %?\nAnswer & explain."


def test_search_prompts(client: MlflowClient, existing: ExistingPrompts) -> None:
    """A search finds exactly the prompts that match the filter, and does not find them among the registered models."""
    prompts = genai.search_prompts(f"tags.team = '{existing.team}'")
    versions = client.search_prompt_versions(existing.names[0])
    models = client.search_registered_models(f"tags.team = '{existing.team}'")

    assert sorted(prompt.name for prompt in prompts) == sorted(existing.names)
    assert sorted(version.version for version in versions) == [1, 2]
    assert list(models) == []


def test_set_alias(truth: MlflowClient, prompt: str) -> None:
    """An alias that is set again points to the other version, and a deleted one to none."""
    genai.set_prompt_alias(prompt, "champion", 2)
    assert _aliases(truth, prompt) == {1: [], 2: ["champion"]}

    genai.delete_prompt_alias(prompt, "champion")
    assert _aliases(truth, prompt) == {1: [], 2: []}


def test_tag_prompt(truth: MlflowClient, prompt: str) -> None:
    """A tag of a prompt or of a version is set or deleted, and other tags and versions stay unchanged."""
    before = truth.get_prompt(prompt).tags

    genai.set_prompt_tag(prompt, "reviewed by", "Zoë & co")
    genai.delete_prompt_tag(prompt, "team")
    genai.set_prompt_version_tag(prompt, 2, "stage", "final")
    genai.delete_prompt_version_tag(prompt, 1, "team")

    expected = {**before, "reviewed by": "Zoë & co"}
    del expected["team"]
    assert truth.get_prompt(prompt).tags == expected
    assert [truth.get_prompt_version(prompt, version).tags for version in (1, 2)] == [{}, {"stage": "final"}]


def test_delete_prompt(client: MlflowClient, truth: MlflowClient, prompt: str) -> None:
    """Deleting a version leaves the others, and deleting a prompt deletes all its versions."""
    client.delete_prompt_version(prompt, "1")
    assert [version.version for version in truth.search_prompt_versions(prompt)] == [2]

    client.delete_prompt(prompt)
    assert list(truth.search_prompts(f"name = '{prompt}'")) == []
    assert list(truth.search_model_versions(f"name = '{prompt}'")) == []


def test_prompt_is_no_model(truth: MlflowClient, scratch: Scratch) -> None:
    """A prompt cannot take the name of a registered model, and the model is unchanged."""
    name = scratch.model()
    truth.create_registered_model(name, tags={"team": "fraud"})

    with pytest.raises(MlflowException, match=name) as refusal:
        _register(name, TEXT)

    assert refusal.value.error_code == "INVALID_PARAMETER_VALUE"
    model = truth.get_registered_model(name)
    assert (model.tags, model.latest_versions) == ({"team": "fraud"}, [])


def test_unknown_prompt(existing: ExistingPrompts) -> None:
    """Loading an unknown version fails with an error that names the prompt, unless a missing one is allowed."""
    name = existing.names[0]

    assert genai.load_prompt(name, version=3, allow_missing=True) is None
    with pytest.raises(MlflowException, match=name) as unknown:
        genai.load_prompt(name, version=3)

    assert unknown.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def _register(name: str, template: str | list[dict[str, Any]], **options: Any) -> None:
    """Register a version of a prompt, as the identity that is signed in."""
    genai.register_prompt(name, template, **options)
    _finish_linking()


def _load(name_or_uri: str, **options: Any) -> PromptVersion:
    """Load a prompt as the identity that is signed in, and not from the client's cache: another may have loaded it before."""
    prompt: PromptVersion = genai.load_prompt(name_or_uri, cache_ttl_seconds=0, **options)
    _finish_linking()
    return prompt


def _finish_linking() -> None:
    """Wait until the client has linked the prompt to the current experiment.

    It does so in a thread, with the key that the process has by then.
    """
    for thread in threading.enumerate():
        if thread.name.startswith("link_prompt"):
            thread.join()


def _aliases(truth: MlflowClient, prompt: str) -> dict[int, list[str]]:
    return {version: truth.get_prompt_version(prompt, version).aliases for version in (1, 2)}
