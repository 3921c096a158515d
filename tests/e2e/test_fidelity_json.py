"""JSON: extreme numbers, texts in any spelling, and MLflow's answers to malformed bodies."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlflow_proxy_e2e.checks.fidelity import (
    AWKWARD,
    Run,
    assert_held,
    assert_same,
    data_of,
    done,
    examples,
    get,
    post,
    spelled,
    values_of,
)
from mlflow_proxy_e2e.wire import Wire, describe

LONGEST = 2**63 - 1
EDGES = [0.1 + 0.2, 5e-324, sys.float_info.min, 1e-300, 2.0**53 + 2, 1e22, 1e23, sys.float_info.max, -sys.float_info.max, math.nan]
points = st.tuples(
    st.floats().map(lambda value: value + 0.0),  # not every database distinguishes -0.0 from 0.0
    st.integers(0, LONGEST),
    st.integers(-LONGEST - 1, LONGEST),
)

# ``RUN`` stands for the run's id.
MALFORMED = {
    "byte-order-mark": b'\xef\xbb\xbf{"run_id": "RUN", "key": "k", "value": "v"}',
    "comment": b'{"run_id": "RUN", "key": "k", "value": "v"} // comment',
    "control-character": b'{"run_id": "RUN", "key": "k", "value": "a\x01b"}',
    "duplicate-key": b'{"run_id": "RUN", "key": "k", "value": "1", "value": "2"}',
    "empty": b"",
    "escaped-nul": b'{"run_id": "RUN", "key": "", "value": "a\\u0000b"}',
    "form": b"run_id=RUN&key=k&value=v",
    "latin-1": '{"run_id": "RUN", "key": "k", "value": "é"}'.encode("latin-1"),
    "lone-surrogate": b'{"run_id": "RUN", "key": "k", "value": "\\ud83d"}',
    "null": b"null",
    "number-too-large": b'{"run_id": "RUN", "key": "k", "value": 1e999}',
    "overlong-utf-8": b'{"run_id": "RUN", "key": "k", "value": "\xc0\xaf"}',
    "single-quotes": b"{'run_id': 'RUN', 'key': 'k', 'value': 'v'}",
    "surrogate-in-utf-8": b'{"run_id": "RUN", "key": "k", "value": "\xed\xa0\xbd"}',
    "truncated": b'{"run_id": "RUN", "key": "k", "val',
    "utf-16": '{"run_id": "RUN", "key": "k", "value": "v"}'.encode("utf-16"),
    "white-space": b' \r\n\t{"run_id" : "RUN" ,\r\n"key":"k","value":"v"}\r\n\r\n',
}


@examples(4)
@given(batch=st.lists(points, min_size=1, max_size=20), seed=st.integers(0, 2**32))
@example(batch=[(value, LONGEST, -LONGEST - 1) for value in EDGES] + [(1.0, 2**53 + 1, 2**53 + 1), (1.0, 0, LONGEST)], seed=0)
def test_metrics(
    batch: list[tuple[float, int, int]],
    seed: int,
    wire: Wire,
    truth_wire: Wire,
    new_run: Callable[[], Run],
) -> None:
    """A metric's value, time and step are stored as sent, to the last digit, and read as they are stored."""
    run = new_run()
    metrics = [{"key": f"m{n}", **_point(*point)} for n, point in enumerate(batch)]
    request = post("runs/log-batch", spelled({"run_id": run.run_id, "metrics": metrics}, random.Random(seed)))

    done(wire, request)

    sent = {f"m{number}": (_stored(value), timestamp, step) for number, (value, timestamp, step) in enumerate(batch)}
    for asked in (truth_wire, wire):
        held = data_of(run, asked)["metrics"]
        assert_held({key: (float(m["value"]), m["timestamp"], m["step"]) for key, m in held.items()}, sent, asked, request)


def _point(value: float, timestamp: int, step: int) -> dict[str, Any]:
    # JSON has no literal for NaN: MLflow reads it from a string.
    words = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    return {"value": words.get(str(value), value), "timestamp": timestamp, "step": step}


def _stored(value: float) -> float:
    # MLflow stores infinity as the largest finite number.
    return math.copysign(sys.float_info.max, value) if math.isinf(value) else value


def test_text(wire: Wire, truth_wire: Wire, new_run: Callable[[], Run]) -> None:
    """Characters that have a meaning in HTML, SQL or a shell are stored as they are."""
    run, text = new_run(), """<b onclick='x'>a & b</b> "c"; -- `d` $(e) ../ %3C &lt; \\ """
    request = post("runs/set-tag", {"run_id": run.run_id, "key": "text", "value": text})

    done(wire, request)

    for asked in (truth_wire, wire):
        assert_held(values_of(data_of(run, asked)["tags"]), {"text": text}, asked, request)


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_bare_word(word: str, wire: Wire, direct_wire: Wire, new_run: Callable[[], Run]) -> None:
    """A value written as a literal of JavaScript or Python, which JSON lacks, has the same effect as when it is sent directly."""
    held = []
    for asked in (direct_wire, wire):
        run = new_run()
        log = post("runs/log-metric", f'{{"run_id": "{run.run_id}", "key": "loss", "value": {word}, "timestamp": 1}}'.encode())
        answer = asked.ask(log)
        held.append((answer.status, answer.body, repr(data_of(run, direct_wire)["metrics"])))

    directly, came = held
    assert came == directly, describe(wire, log, came, directly)


def test_answer(wire: Wire, direct_wire: Wire, new_run: Callable[[], Run]) -> None:
    """MLflow's answer arrives byte for byte: order of keys, white space, escapes and digits included."""
    run_id, experiment_id = new_run()
    tags = [{"key": f"key {number}", "value": text} for number, text in enumerate(AWKWARD)]
    metrics = [{"key": f"m{number}", **_point(value, LONGEST, -LONGEST - 1)} for number, value in enumerate(EDGES)]
    done(direct_wire, post("runs/log-batch", {"run_id": run_id, "tags": tags, "params": tags, "metrics": metrics}))

    for request in (
        get(f"runs/get?run_id={run_id}"),
        get(f"metrics/get-history?run_id={run_id}&metric_key=m0"),
        get(f"experiments/get?experiment_id={experiment_id}"),
        post("runs/search", {"experiment_ids": [experiment_id]}),
        post("experiments/search", {"filter": "name = 'no such experiment'", "max_results": 1}),
    ):
        assert_same(request, wire, direct_wire)


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_body(body: bytes, wire: Wire, direct_wire: Wire, new_run: Callable[[], Run]) -> None:
    """A malformed body reaches MLflow unchanged, and its error message comes back."""
    request = post("runs/set-tag", body.replace(b"RUN", new_run().run_id.encode()))

    assert_same(request, wire, direct_wire)
