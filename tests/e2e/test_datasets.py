"""Data sets for evaluation: created, filled, found, tagged, moved and deleted."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from mlflow.entities import EvaluationDataset
from mlflow.exceptions import MlflowException
from mlflow.genai import datasets

from mlflow_proxy_e2e.clients import signed_in
from mlflow_proxy_e2e.scratch import Scratch
from mlflow_proxy_e2e.target import Caller, Identity, Route

pytestmark = pytest.mark.capability("datasets")

UNKNOWN = "d-" + "0" * 32
RECORDS: list[dict[str, Any]] = [
    {"inputs": {"question": "Größer?"}, "expectations": {"answer": "ja & nein"}, "tags": {"team": "fraud"}},
    {"inputs": {"question": "50 % of 3?"}, "expectations": {"answer": 1.5}},
]


class Shelf(NamedTuple):
    """An experiment with three data sets to be read, in alphabetical order; the first and the last are of the team "fraud"."""

    experiment_id: str
    names: tuple[str, ...]
    first_id: str


@pytest.fixture(scope="module")
def shelf(witness: Caller, shared_scratch: Scratch) -> Shelf:
    """Return the data sets that tests read and that no test changes; the first has records."""
    names = tuple(shared_scratch.dataset() for _ in range(3))
    with signed_in(*witness) as mlflow_itself:
        experiment_id = mlflow_itself.create_experiment(shared_scratch.experiment())
        teams = zip(names, ("fraud", "risk", "fraud"), strict=True)
        kept = [datasets.create_dataset(name, experiment_id, {"team": team}) for name, team in teams]
        kept[0].merge_records(RECORDS)
    return Shelf(experiment_id, names, kept[0].dataset_id)


@pytest.fixture
def dataset(witness: Caller, scratch: Scratch, experiment_id: str) -> EvaluationDataset:
    """Return a data set of the test's own, tagged, with records."""
    with signed_in(*witness) as mlflow_itself:
        created = datasets.create_dataset(scratch.dataset(), experiment_id, {"team": "fraud", "stage": "draft"})
        created.merge_records(RECORDS)
        return mlflow_itself.get_dataset(created.dataset_id)


def test_create_dataset(route: Route, control: Identity, witness: Caller, scratch: Scratch, experiment_id: str) -> None:
    """A data set that is created through a route is there once, in its experiment, with its tags."""
    name = scratch.dataset(" größer")

    with signed_in(route, control):
        created = datasets.create_dataset(name, experiment_id, {"team": "fraud & risk"})

    with signed_in(*witness) as mlflow_itself:
        found = mlflow_itself.search_datasets(filter_string=f"name = '{name}'")
        experiments = mlflow_itself.get_dataset(created.dataset_id).experiment_ids
    assert [(dataset.dataset_id, dataset.name) for dataset in found] == [(created.dataset_id, name)]
    assert found[0].tags["team"] == "fraud & risk"
    assert experiments == [experiment_id]


def test_merge_records(route: Route, control: Identity, witness: Caller, dataset: EvaluationDataset) -> None:
    """Records are added, unless the same inputs are there: then what was expected of those is brought up to date."""
    with signed_in(route, control):
        datasets.get_dataset(dataset_id=dataset.dataset_id).merge_records(
            [
                {"inputs": {"question": "50 % of 3?"}, "expectations": {"answer": "1½"}},
                {"inputs": {"question": "a+b&c"}, "expectations": {"answer": None}},
            ]
        )

    assert _expectations(witness, dataset.dataset_id) == {
        "Größer?": {"answer": "ja & nein"},
        "50 % of 3?": {"answer": "1½"},
        "a+b&c": {"answer": None},
    }


@pytest.mark.capability("traces")
def test_merge_trace(route: Route, control: Identity, witness: Caller, dataset: EvaluationDataset, experiment_id: str) -> None:
    """What an application was asked becomes a record, from the trace of it, and says where it comes from."""
    with signed_in(*witness) as mlflow_itself:
        trace_id = mlflow_itself.start_trace("answer", inputs={"question": "traced?"}, experiment_id=experiment_id).trace_id
        mlflow_itself.end_trace(trace_id)

    with signed_in(route, control) as client:
        datasets.get_dataset(dataset_id=dataset.dataset_id).merge_records([client.get_trace(trace_id)])

    with signed_in(*witness) as mlflow_itself:
        sources = {record.inputs["question"]: record.source for record in mlflow_itself.get_dataset(dataset.dataset_id).records}
    assert set(sources) == {"Größer?", "50 % of 3?", "traced?"}
    assert sources["traced?"].source_data["trace_id"] == trace_id


def test_read_records(route: Route, control: Identity, witness: Caller, shelf: Shelf) -> None:
    """Whoever may read gets a data set by its name, and its records as a table, as MLflow itself gives them."""
    with signed_in(route, control):
        seen = datasets.get_dataset(name=shelf.names[0])
        table = seen.to_df()

    with signed_in(*witness):
        expected = datasets.get_dataset(dataset_id=shelf.first_id)
        assert table.to_dict("records") == expected.to_df().to_dict("records")
    assert (seen.dataset_id, seen.tags, seen.digest) == (expected.dataset_id, expected.tags, expected.digest)
    assert sorted(table["inputs"], key=str) == sorted((record["inputs"] for record in RECORDS), key=str)


def test_search_datasets(route: Route, control: Identity, shelf: Shelf) -> None:
    """Whoever may read finds exactly the data sets that meet a condition, in the order asked for."""
    first, _, last = shelf.names

    with signed_in(route, control):
        found = datasets.search_datasets([shelf.experiment_id], "tags.team = 'fraud'", order_by=["name DESC"])

    assert [dataset.name for dataset in found] == [last, first]


def test_page_datasets(route: Route, control: Identity, shelf: Shelf) -> None:
    """The pages of a search follow each other without a gap or a repetition, and end."""
    by_name: dict[str, Any] = {"experiment_ids": [shelf.experiment_id], "order_by": ["name ASC"], "max_results": 2}

    with signed_in(route, control) as client:
        page = client.search_datasets(**by_name)
        last_page = client.search_datasets(**by_name, page_token=page.token)

    assert tuple(dataset.name for dataset in [*page, *last_page]) == shelf.names
    assert (len(page), len(last_page), last_page.token or None) == (2, 1, None)


def test_tag_dataset(route: Route, control: Identity, witness: Caller, dataset: EvaluationDataset) -> None:
    """A tag is set, replaced or deleted, and the others stay as they are."""
    with signed_in(route, control):
        datasets.set_dataset_tags(dataset_id=dataset.dataset_id, tags={"reviewed by": "Zoë & co", "stage": "final"})
        datasets.delete_dataset_tag(dataset_id=dataset.dataset_id, key="team")

    expected = {**dataset.tags, "reviewed by": "Zoë & co", "stage": "final"}
    del expected["team"]
    with signed_in(*witness) as mlflow_itself:
        assert mlflow_itself.get_dataset(dataset.dataset_id).tags == expected


def test_move_dataset(
    route: Route, control: Identity, witness: Caller, dataset: EvaluationDataset, scratch: Scratch, experiment_id: str
) -> None:
    """A data set is added to an experiment and removed from another, and keeps its records."""
    with signed_in(*witness) as mlflow_itself:
        another = mlflow_itself.create_experiment(scratch.experiment())

    with signed_in(route, control):
        datasets.add_dataset_to_experiments(dataset.dataset_id, [another])
        datasets.remove_dataset_from_experiments(dataset.dataset_id, [experiment_id])

    with signed_in(*witness) as mlflow_itself:
        moved = mlflow_itself.get_dataset(dataset.dataset_id)
        assert moved.experiment_ids == [another]
        assert len(moved.records) == len(RECORDS)


def test_delete_records(route: Route, control: Identity, witness: Caller, dataset: EvaluationDataset) -> None:
    """Of a data set's records those go that are named, and no others; how many is told."""
    with signed_in(*witness):
        ids = {record.inputs["question"]: record.dataset_record_id for record in dataset.records}

    with signed_in(route, control):
        deleted = datasets.get_dataset(dataset_id=dataset.dataset_id).delete_records([ids["Größer?"]])

    assert deleted == 1
    assert set(_expectations(witness, dataset.dataset_id)) == {"50 % of 3?"}


def test_delete_dataset(route: Route, control: Identity, witness: Caller, dataset: EvaluationDataset) -> None:
    """A data set that is deleted is neither found nor listed any more."""
    with signed_in(route, control):
        datasets.delete_dataset(dataset_id=dataset.dataset_id)

    with signed_in(*witness) as mlflow_itself:
        with pytest.raises(MlflowException) as unknown:
            mlflow_itself.get_dataset(dataset.dataset_id)
        left = mlflow_itself.search_datasets(filter_string=f"name = '{dataset.name}'")
    assert unknown.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    assert list(left) == []


def test_unknown_dataset(route: Route, control: Identity) -> None:
    """Who asks for a data set that is not there is told so, and which."""
    with signed_in(route, control), pytest.raises(MlflowException, match=UNKNOWN) as unknown:
        datasets.get_dataset(dataset_id=UNKNOWN)

    assert unknown.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def _expectations(witness: Caller, dataset_id: str) -> dict[str, dict[str, Any]]:
    """Return what is expected in a data set, by the question."""
    with signed_in(*witness) as mlflow_itself:
        records = mlflow_itself.get_dataset(dataset_id).records
    return {record.inputs["question"]: record.expectations for record in records}
