"""Data sets for evaluation: created, filled, found, tagged, moved and deleted."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from mlflow import MlflowClient
from mlflow.entities import EvaluationDataset
from mlflow.exceptions import MlflowException
from mlflow.genai import datasets

from mlflow_proxy_e2e.clients import signed_in
from mlflow_proxy_e2e.scratch import Scratch
from mlflow_proxy_e2e.target import Target

pytestmark = [pytest.mark.capability("datasets"), pytest.mark.usefixtures("signed_in_client")]

UNKNOWN = "d-" + "0" * 32
RECORDS: list[dict[str, Any]] = [
    {"inputs": {"question": "Größer?"}, "expectations": {"answer": "ja & nein"}, "tags": {"team": "fraud"}},
    {"inputs": {"question": "50 % of 3?"}, "expectations": {"answer": 1.5}},
]


class ExistingDatasets(NamedTuple):
    """An experiment with three data sets, in alphabetical order; the first and the last have the tag team=fraud."""

    experiment_id: str
    names: tuple[str, ...]
    first_id: str


class Contents(NamedTuple):
    """The experiments and the records of a data set."""

    experiment_ids: list[str]
    records: list[Any]


@pytest.fixture(scope="module")
def existing(target: Target, shared_scratch: Scratch) -> ExistingDatasets:
    """Return data sets that tests read and no test changes; the first has records."""
    names = tuple(shared_scratch.dataset() for _ in range(3))
    with signed_in(*target.truth) as client:
        experiment_id = client.create_experiment(shared_scratch.experiment())
        teams = zip(names, ("fraud", "risk", "fraud"), strict=True)
        created = [datasets.create_dataset(name, experiment_id, {"team": team}) for name, team in teams]
        created[0].merge_records(RECORDS)
    return ExistingDatasets(experiment_id, names, created[0].dataset_id)


@pytest.fixture
def dataset(target: Target, scratch: Scratch, experiment_id: str) -> EvaluationDataset:
    """Return a tagged data set for the test, with records."""
    with signed_in(*target.truth) as client:
        created = datasets.create_dataset(scratch.dataset(), experiment_id, {"team": "fraud", "stage": "draft"})
        created.merge_records(RECORDS)
        return client.get_dataset(created.dataset_id)


@pytest.fixture
def trace_id(target: Target, experiment_id: str) -> str:
    """Return a trace of the question "traced?"."""
    with signed_in(*target.truth) as client:
        root = client.start_trace("answer", inputs={"question": "traced?"}, experiment_id=experiment_id)
        client.end_trace(root.trace_id)
    return root.trace_id


def test_create_dataset(target: Target, truth: MlflowClient, scratch: Scratch, experiment_id: str) -> None:
    """A data set created through a route exists once, in its experiment, with its tags."""
    name = scratch.dataset(" größer")

    created = datasets.create_dataset(name, experiment_id, {"team": "fraud & risk"})

    found = truth.search_datasets(filter_string=f"name = '{name}'")
    assert [(dataset.dataset_id, dataset.name) for dataset in found] == [(created.dataset_id, name)]
    assert found[0].tags["team"] == "fraud & risk"
    assert _contents(target, created.dataset_id).experiment_ids == [experiment_id]


def test_merge_records(target: Target, dataset: EvaluationDataset) -> None:
    """Records are added; where a record has the same inputs, its expectations are updated instead."""
    datasets.get_dataset(dataset_id=dataset.dataset_id).merge_records(
        [
            {"inputs": {"question": "50 % of 3?"}, "expectations": {"answer": "1½"}},
            {"inputs": {"question": "a+b&c"}, "expectations": {"answer": None}},
        ]
    )

    assert _expectations(target, dataset.dataset_id) == {
        "Größer?": {"answer": "ja & nein"},
        "50 % of 3?": {"answer": "1½"},
        "a+b&c": {"answer": None},
    }


@pytest.mark.capability("traces")
def test_merge_trace(client: MlflowClient, target: Target, dataset: EvaluationDataset, trace_id: str) -> None:
    """A trace becomes a record with the inputs of the trace, and names the trace as its source."""
    datasets.get_dataset(dataset_id=dataset.dataset_id).merge_records([client.get_trace(trace_id)])

    sources = {record.inputs["question"]: record.source for record in _contents(target, dataset.dataset_id).records}
    assert set(sources) == {"Größer?", "50 % of 3?", "traced?"}
    assert sources["traced?"].source_data["trace_id"] == trace_id


def test_read_records(target: Target, existing: ExistingDatasets) -> None:
    """A data set is found by its name, with its records as a table, exactly as MLflow itself returns them."""
    seen = datasets.get_dataset(name=existing.names[0])
    table = seen.to_df()

    with signed_in(*target.truth):
        expected = datasets.get_dataset(dataset_id=existing.first_id)
        assert table.to_dict("records") == expected.to_df().to_dict("records")
    assert (seen.dataset_id, seen.tags, seen.digest) == (expected.dataset_id, expected.tags, expected.digest)
    assert sorted(table["inputs"], key=str) == sorted((record["inputs"] for record in RECORDS), key=str)


def test_search_datasets(existing: ExistingDatasets) -> None:
    """A search finds exactly the data sets that match the filter, in the requested order."""
    first, _, last = existing.names

    found = datasets.search_datasets([existing.experiment_id], "tags.team = 'fraud'", order_by=["name DESC"])

    assert [dataset.name for dataset in found] == [last, first]


def test_page_datasets(client: MlflowClient, existing: ExistingDatasets) -> None:
    """The pages of a search have no gaps or repetitions, and come to an end."""
    by_name: dict[str, Any] = {"experiment_ids": [existing.experiment_id], "order_by": ["name ASC"], "max_results": 2}

    page = client.search_datasets(**by_name)
    last_page = client.search_datasets(**by_name, page_token=page.token)

    assert tuple(dataset.name for dataset in [*page, *last_page]) == existing.names
    assert (len(page), len(last_page), last_page.token or None) == (2, 1, None)


def test_tag_dataset(truth: MlflowClient, dataset: EvaluationDataset) -> None:
    """A tag is set, replaced or deleted, and other tags stay unchanged."""
    datasets.set_dataset_tags(dataset_id=dataset.dataset_id, tags={"reviewed by": "Zoë & co", "stage": "final"})
    datasets.delete_dataset_tag(dataset_id=dataset.dataset_id, key="team")

    expected = {**dataset.tags, "reviewed by": "Zoë & co", "stage": "final"}
    del expected["team"]
    assert truth.get_dataset(dataset.dataset_id).tags == expected


def test_move_dataset(
    target: Target, truth: MlflowClient, dataset: EvaluationDataset, scratch: Scratch, experiment_id: str
) -> None:
    """A data set that is added to one experiment and removed from another keeps its records."""
    another = truth.create_experiment(scratch.experiment())

    datasets.add_dataset_to_experiments(dataset.dataset_id, [another])
    datasets.remove_dataset_from_experiments(dataset.dataset_id, [experiment_id])

    moved = _contents(target, dataset.dataset_id)
    assert moved.experiment_ids == [another]
    assert len(moved.records) == len(RECORDS)


def test_delete_records(target: Target, dataset: EvaluationDataset) -> None:
    """Exactly the named records of a data set are deleted, and the answer says how many."""
    records = _contents(target, dataset.dataset_id).records
    ids = {record.inputs["question"]: record.dataset_record_id for record in records}

    deleted = datasets.get_dataset(dataset_id=dataset.dataset_id).delete_records([ids["Größer?"]])

    assert deleted == 1
    assert set(_expectations(target, dataset.dataset_id)) == {"50 % of 3?"}


def test_delete_dataset(truth: MlflowClient, dataset: EvaluationDataset) -> None:
    """A deleted data set is neither found nor listed any more."""
    datasets.delete_dataset(dataset_id=dataset.dataset_id)

    with pytest.raises(MlflowException) as unknown:
        truth.get_dataset(dataset.dataset_id)
    left = truth.search_datasets(filter_string=f"name = '{dataset.name}'")
    assert unknown.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    assert list(left) == []


def test_unknown_dataset() -> None:
    """A request for an unknown data set fails with an error that names it."""
    with pytest.raises(MlflowException, match=UNKNOWN) as unknown:
        datasets.get_dataset(dataset_id=UNKNOWN)

    assert unknown.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def _expectations(target: Target, dataset_id: str) -> dict[str, dict[str, Any]]:
    """Return the expectations in a data set, by question."""
    return {record.inputs["question"]: record.expectations for record in _contents(target, dataset_id).records}


def _contents(target: Target, dataset_id: str) -> Contents:
    """Return the content of a data set in MLflow. The client loads it lazily: here, while it asks MLflow itself."""
    with signed_in(*target.truth) as client:
        dataset = client.get_dataset(dataset_id)
        return Contents(dataset.experiment_ids, dataset.records)
