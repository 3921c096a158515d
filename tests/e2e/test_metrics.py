"""Metrics: their history, for one run and for several in one call."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric
from requests import Response

from mlflow_proxy_e2e.rest import Rest
from mlflow_proxy_e2e.scratch import Scratch

METRICS = "2.0/mlflow/metrics"
KEY = "val/loss: upper 5"  # a name that has to be escaped in a query
START = 1_700_000_000_123  # milliseconds


class Point(NamedTuple):
    """One value in a metric's history."""

    value: float
    timestamp: int
    step: int


# In order of time, which is not the order of steps, with values and steps that need every digit.
HISTORY = [
    Point(0.1 + 0.2, START, 5),
    Point(-1e-300, START + 1, 3),
    Point(-1e-300, START + 2, 3),
    Point(1.7e308, START + 3, 2**40),
    Point(0.0, START + 4, -1),
]
OTHERS = [[Point(10.0 * run + step, START + step, step) for step in range(5)] for run in (1, 2)]


@pytest.fixture(scope="module")
def histories(truth: MlflowClient, shared_scratch: Scratch) -> dict[str, list[Point]]:
    """Return the metric's history in each of three runs, by run id and in the order of the ids; no test changes them."""
    experiment_id = truth.create_experiment(shared_scratch.experiment())
    run_ids = sorted(truth.create_run(experiment_id).info.run_id for _ in range(3))
    histories = dict(zip(run_ids, [HISTORY, *OTHERS], strict=True))
    for run_id, history in histories.items():
        truth.log_batch(run_id, [Metric(KEY, *point) for point in reversed(history)])
    return histories


@pytest.mark.since("3.1")  # older ones do not page
def test_metric_history(as_reader: MlflowClient, reader_rest: Rest, histories: dict[str, list[Point]]) -> None:
    """A metric's history has every value exactly as it was logged, in order of time, whole or page by page."""
    run_id, *_ = histories
    paging: dict[str, Any] = {"run_id": run_id, "metric_key": KEY, "max_results": 3}

    whole = as_reader.get_metric_history(run_id, KEY)
    page = reader_rest.get(f"/api/{METRICS}/get-history", params=paging).json()
    last_page = reader_rest.get(f"/api/{METRICS}/get-history", params={**paging, "page_token": page["next_page_token"]}).json()

    assert [Point(metric.value, metric.timestamp, metric.step) for metric in whole] == HISTORY
    assert [_point(metric) for metric in page["metrics"]] == HISTORY[:3]
    assert [_point(metric) for metric in last_page["metrics"]] == HISTORY[3:]
    assert "next_page_token" not in last_page


@pytest.mark.capability("ui")
def test_metric_history_of_several_runs(reader_rest: Rest, histories: dict[str, list[Point]]) -> None:
    """A call that repeats a query parameter, as the comparison of runs does, is answered for every run it names."""
    run_ids = list(histories)
    steps: dict[str, Any] = {"start_step": 2, "end_step": 3}

    bulk = reader_rest.get(f"/ajax-api/{METRICS}/get-history-bulk", params={"run_id": run_ids, "metric_key": KEY})
    part = reader_rest.get(f"/api/{METRICS}/get-history-bulk-interval", params={"run_ids": run_ids, "metric_key": KEY, **steps})

    everything = [(run_id, point) for run_id, history in histories.items() for point in history]
    assert _points_by_run(bulk) == everything
    assert _points_by_run(part) == [(run_id, point) for run_id, point in everything if point.step in (2, 3)]


def _point(metric: dict[str, Any]) -> Point:
    return Point(metric["value"], metric["timestamp"], metric["step"])


def _points_by_run(answer: Response) -> list[tuple[str, Point]]:
    return [(metric["run_id"], _point(metric)) for metric in answer.json()["metrics"]]
