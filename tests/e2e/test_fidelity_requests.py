"""Queries, headers and bodies: MLflow gets any request exactly as it was sent."""

from __future__ import annotations

import json
import random
import string
import uuid

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlflow_proxy_e2e.access_log import AccessLog
from mlflow_proxy_e2e.checks.fidelity import (
    API,
    AWKWARD,
    UNRESERVED,
    assert_same,
    done,
    escaped,
    examples,
    get,
    in_query,
    post,
    texts,
)
from mlflow_proxy_e2e.scratch import Scratch
from mlflow_proxy_e2e.wire import JSON, Request, Wire, describe

BY_NAME = "experiments/get-by-name"  # for an unknown experiment, MLflow repeats the requested name
NO_SUCH = "no-such-experiment"
IN_VALUE = "!$'()*,/:;?@"  # may be in a parameter's value without being escaped
IN_QUERY = UNRESERVED + IN_VALUE + "+=&"  # what a query consists of, apart from escapes
LONG = 7500  # bytes: with a prefix, still below the 8 kB of a request line or header that most servers accept

QUERIES = {
    "ampersands": "&&experiment_name=no&&&",
    "blank-and-value": "experiment_name=&experiment_name=no",
    "blank-value": "experiment_name=",
    "double-question-mark": "?experiment_name=no",
    "empty": "",
    "equals-in-value": "experiment_name=a=b==",
    "escaped-name": "experiment%5Fname=no",
    "escaped-percent": "experiment_name=%2541%25",
    "escaped-space": "experiment_name=no%20such%20one",
    "escaped-unreserved": "experiment_name=%6E%6f",
    "long": f"experiment_name={'x' * LONG}",
    "no-value": "experiment_name",
    "not-utf-8": "experiment_name=%ff%FE",
    "plus": "experiment_name=no+such+one%2B",
    "question-mark-and-slash": "experiment_name=a/b?c//../d",
    "semicolon": "experiment_name=a;b=c;experiment_name=d",
    "twice": "experiment_name=two&experiment_name=one",
    "value-and-blank": "experiment_name=no&experiment_name=",
}
pieces = st.one_of(
    st.sampled_from(IN_QUERY + "&=+;"), st.binary(min_size=1, max_size=2).map(lambda b: "".join(f"%{n:02x}" for n in b))
)
queries = st.lists(pieces, max_size=60).map("".join)

# RFC 9110: what a field's value consists of. Blanks at its ends are not part of it.
header_values = st.text(st.sampled_from(string.printable[:94] + " \t" + "\xa1\xe9\xff"), min_size=1, max_size=60).map(str.strip)


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES.keys())
def test_query(query: str, wire: Wire, direct_wire: Wire) -> None:
    """A query gets MLflow's own answer: repeated parameters, their order, blanks and escapes included."""
    assert_same(get(f"{BY_NAME}?{query}"), wire, direct_wire)


@examples(12)
@given(query=queries)
def test_any_query(query: str, wire: Wire, direct_wire: Wire) -> None:
    """Whatever comes before, in and after a parameter, the query gets MLflow's own answer."""
    assert_same(get(f"{BY_NAME}?{query}&experiment_name={query}"), wire, direct_wire)


@examples(12)
@given(text=texts, seed=st.integers(0, 2**32))
@example(text="".join(AWKWARD), seed=1)
def test_text_in_query(text: str, seed: int, wire: Wire) -> None:
    """A correctly escaped text arrives as that text."""
    name = f"{NO_SUCH} {text}"
    request = get(f"{BY_NAME}?experiment_name={escaped(name, IN_VALUE, random.Random(seed))}")

    answer = wire.ask(request)

    assert answer.status == 404, describe(wire, request, answer, 404)
    assert name in answer.json()["message"], describe(wire, request, answer, f"{name!a} in the message")


def test_query_in_log(wire: Wire, mlflow_log: AccessLog | None) -> None:
    """The query in MLflow's log is, byte for byte, the one that was sent."""
    if mlflow_log is None:
        pytest.skip("the target is not a stack of our own: what MLflow noted cannot be seen")
    mark = f"mark{uuid.uuid4().hex}"
    sent = [f"n={mark}-{number}&{query}" for number, query in enumerate(QUERIES.values())]

    for query in sent:
        wire.ask(get(f"{BY_NAME}?{query}"))

    mlflow_log.await_line_with(f"{mark}-{len(sent) - 1}&")
    noted = [line.partition("?")[2].split(" HTTP/")[0] for line in mlflow_log.lines_with(mark)]
    missing = sorted(set(sent) - set(noted))
    assert not missing, describe(wire, get(f"{BY_NAME}?{missing[0]}"), sorted(set(noted) - set(sent))[:1], missing[:1])


def reflected(value: str) -> Request:
    """Return a request with a header whose value MLflow repeats, since it is not a supported media type."""
    return Request("POST", "/v1/traces", (("X-Mlflow-Experiment-Id", "0"), ("Content-Type", f"text/{value}")), b"{}")


@examples(12)
@given(value=header_values)
@example(value='x; a="q\\" \t(),/:;<=>?@[]{}|~!#$%&*+^`"; b=%41%')
@example(value="x" * LONG)
def test_header_value(value: str, wire: Wire, direct_wire: Wire) -> None:
    """A header's value arrives as it was sent, long ones and odd ones included."""
    assert_same(reflected(value), wire, direct_wire)


def test_long_header(wire: Wire) -> None:
    """A call with a long header, such as a token with many claims, is answered like any other."""
    done(wire, Request("GET", f"{API}/experiments/search?max_results=1", (("X-Some", "x" * LONG),)))


def test_many_headers(wire: Wire, direct_wire: Wire) -> None:
    """A request may have many headers, some repeated, in any case, and with empty values."""
    headers = tuple((f"X-{'UPPER' if number % 2 else 'lower'}-{number % 20}", "v" * (number % 3) * 20) for number in range(40))

    assert_same(Request("GET", f"{API}/{BY_NAME}?experiment_name={NO_SUCH}", headers), wire, direct_wire)


@pytest.mark.capability("registry")
def test_patch_and_delete_with_body(wire: Wire, truth_wire: Wire, scratch: Scratch) -> None:
    """The bodies of PATCH and DELETE arrive, and determine what happens to a model."""
    name = scratch.model()
    tags = [{"key": key, "value": "1"} for key in ("goes", "stays")]
    done(truth_wire, post("registered-models/create", {"name": name, "tags": tags}))

    for method, path, content in (
        ("PATCH", "update", {"name": name, "description": "patched"}),
        ("DELETE", "delete-tag", {"name": name, "key": "goes"}),
    ):
        done(wire, Request(method, f"{API}/registered-models/{path}", JSON, json.dumps(content).encode()))

    held = done(truth_wire, get(f"registered-models/get?name={in_query(name)}")).json()["registered_model"]
    assert (held["description"], held["tags"]) == ("patched", [{"key": "stays", "value": "1"}])
