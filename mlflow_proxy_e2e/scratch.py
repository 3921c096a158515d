"""What a test creates: under unique names, recorded before creation, and removed afterwards."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import TypeVar

import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.entities import PagedList

from mlflow_proxy_e2e.clients import signed_in
from mlflow_proxy_e2e.run import Run
from mlflow_proxy_e2e.target import Identity, Route
from mlflow_proxy_e2e.traffic import TRAFFIC

PAGE = 50  # of a search: the largest that every MLflow accepts
CANNOT = (MlflowException, requests.RequestException)  # the errors of a failed removal


class Scratch:
    """Hands out unique names, and removes everything that was created under them.

    Args:
        route, identity: used to remove it. If possible not the route under test: a broken one would leave everything behind.
        run: gives the names, and has them in its journal.
    """

    def __init__(self, route: Route, identity: Identity | None, run: Run) -> None:
        self._owner = (route, identity)
        self._run = run
        self.beginning = run.new_names()  # the prefix of all names that it gives, and of no others
        self._numbers = itertools.count(1)
        self._kinds: set[str] = set()

    def experiment(self, suffix: str = "") -> str:
        """Return a name for an experiment."""
        return self._name("experiment", suffix)

    def model(self, suffix: str = "") -> str:
        """Return a name for a registered model."""
        return self._name("model", suffix)

    def prompt(self, suffix: str = "") -> str:
        """Return a name for a prompt."""
        return self._name("prompt", suffix)

    def dataset(self, suffix: str = "") -> str:
        """Return a name for a data set for evaluation."""
        return self._name("dataset", suffix)

    def webhook(self) -> str:
        """Return a name for a webhook."""
        return self._name("webhook", "")

    def clean(self) -> None:
        """Remove everything under this scratch's names. What cannot be removed is left to the end of the run, which reports it."""
        with suppress(*CANNOT), TRAFFIC.uncounted(), signed_in(*self._owner) as client:
            for kind in (kind for kind in FINDERS if kind in self._kinds):
                remove(client, kind, f"{self.beginning}-")
            self._run.note_removal(self.beginning)

    def _name(self, kind: str, suffix: str) -> str:
        self._kinds.add(kind)
        name = f"{self.beginning}-{next(self._numbers)}{suffix}"
        self._run.note_creation(kind, name)
        return name


Found = tuple[str, Callable[[], object]]  # a name, and the function that removes the object
Entity = TypeVar("Entity")


def remove(client: MlflowClient, kind: str, beginning: str, is_ours: Callable[[str], bool] = bool) -> list[str]:
    """Remove everything of a kind whose name has this prefix and is ours, and return the names.

    An experiment goes with its contents, as far as MLflow removes experiments: it hides them until ``mlflow gc``.
    """
    found = [(name, take_away) for name, take_away in FINDERS[kind](client, beginning) if name.startswith(beginning)]
    ours = [(name, take_away) for name, take_away in found if is_ours(name)]
    for _, take_away in ours:
        take_away()
    return [name for name, _ in ours]


def _models(client: MlflowClient, beginning: str) -> Iterator[Found]:
    for model in _all(partial(client.search_registered_models, _begins(beginning))):
        yield model.name, partial(client.delete_registered_model, model.name)


def _prompts(client: MlflowClient, beginning: str) -> Iterator[Found]:
    # MLflow stores prompts as registered models, and leaves them out of lists of models.
    for prompt in _all(partial(client.search_prompts, _begins(beginning))):
        yield prompt.name, partial(client.delete_prompt, prompt.name)


def _datasets(client: MlflowClient, beginning: str) -> Iterator[Found]:
    for dataset in _all(partial(client.search_datasets, filter_string=_begins(beginning))):
        yield dataset.name, partial(client.delete_dataset, dataset.dataset_id)


def _webhooks(client: MlflowClient, _: str) -> Iterator[Found]:
    for webhook in _all(client.list_webhooks):  # they cannot be searched for
        yield webhook.name, partial(client.delete_webhook, webhook.webhook_id)


def _experiments(client: MlflowClient, beginning: str) -> Iterator[Found]:
    for experiment in _all(partial(client.search_experiments, filter_string=_begins(beginning))):
        yield experiment.name, partial(client.delete_experiment, experiment.experiment_id)


FINDERS: Mapping[str, Callable[[MlflowClient, str], Iterator[Found]]] = {
    "model": _models,
    "prompt": _prompts,
    "dataset": _datasets,
    "webhook": _webhooks,
    "experiment": _experiments,
}


NEEDS: Mapping[str, str] = {"model": "registry", "prompt": "prompts", "dataset": "datasets", "webhook": "webhooks"}  # capabilities


def _begins(beginning: str) -> str:
    return f"name LIKE '{beginning}%'"


def _all(search: Callable[..., PagedList[Entity]]) -> Iterator[Entity]:
    page = search(max_results=PAGE)
    yield from page
    while page.token:
        page = search(max_results=PAGE, page_token=page.token)
        yield from page
