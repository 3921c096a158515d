"""Conversations between users and MLflow, call by call, held both directly and through a route, to be compared."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlflow_proxy_e2e.wire import JSON, Answer, Request

API, FILES = "/api/2.0/mlflow", "/api/2.0/mlflow-artifacts/artifacts"

# MLflow numbers experiments. Other numbers in a conversation must not look like an experiment's id.
MANY = 10007  # repetitions of a file's content
# Values that MLflow generates for every object. Ids that later calls use are not among these: they get names, and must be the
# same wherever they appear.
MOMENT = re.compile(r"(?<![\w.])1\d{12}(?![\w.])")  # in milliseconds
HEADERS_OF_A_FILE = ("etag", "last-modified")  # in which an artifact is stored


@dataclass(frozen=True)
class Step:
    """One call. ``$names`` in the path and the body stand for values known so far.

    Args:
        learns: names for values in the answer, each with the keys that lead to it.
        reads: whether the call changes nothing and can be repeated.
    """

    method: str
    path: str
    body: Mapping[str, Any] | bytes | None = None
    learns: Mapping[str, Sequence[str | int]] = field(default_factory=dict)
    reads: bool = False

    def request(self, known: Mapping[str, str]) -> Request:
        """Return the call with the known values in place of names."""
        if self.body is None or isinstance(self.body, bytes):
            return Request(self.method, _filled(self.path, known), (), self.body or b"")
        return Request(self.method, _filled(self.path, known), JSON, _filled(json.dumps(self.body), known).encode())


def get(path: str) -> Step:
    """Return a read with GET."""
    return Step("GET", path, reads=True)


def search(path: str, body: Mapping[str, Any]) -> Step:
    """Return a read with POST."""
    return Step("POST", path, body, reads=True)


EXPERIMENT = Step("POST", f"{API}/experiments/create", {"name": "$name"}, {"experiment": ("experiment_id",)})
RUN = Step(
    "POST", f"{API}/runs/create", {"experiment_id": "$experiment", "run_name": "nightly"}, {"run": ("run", "info", "run_id")}
)
MODEL = Step("POST", f"{API}/registered-models/create", {"name": "$name", "tags": [{"key": "team", "value": "fraud"}]})

CONVERSATIONS: Mapping[str, tuple[str, Sequence[Step]]] = {  # each with the kind of object that it creates
    "experiments": (
        "experiment",
        (
            EXPERIMENT,
            Step("POST", f"{API}/experiments/create", {"name": "$name"}),  # a conflict
            get(f"{API}/experiments/get?experiment_id=$experiment"),
            get(f"{API}/experiments/get-by-name?experiment_name=$name"),
            get(f"{API}/experiments/get-by-name?experiment_name=$name-nobody"),
            search(f"{API}/experiments/search", {"max_results": 2, "filter": "name = '$name'"}),
            Step("POST", f"{API}/experiments/set-experiment-tag", {"experiment_id": "$experiment", "key": "ü", "value": "€ ☃"}),
            Step("POST", f"{API}/experiments/delete-experiment-tag", {"experiment_id": "$experiment", "key": "nobody"}),
            get(f"{API}/experiments/get?experiment_id=$experiment"),
            Step("POST", f"{API}/experiments/update", {"experiment_id": "$experiment", "new_name": "$name-new"}),
            Step("POST", f"{API}/experiments/delete", {"experiment_id": "$experiment"}),
            Step("POST", f"{API}/runs/create", {"experiment_id": "$experiment"}),  # in a deleted experiment
            Step("POST", f"{API}/experiments/restore", {"experiment_id": "$experiment"}),
            get("/ajax-api/2.0/mlflow/experiments/get?experiment_id=$experiment"),
        ),
    ),
    "runs": (
        "experiment",
        (
            EXPERIMENT,
            RUN,
            Step("POST", f"{API}/runs/log-parameter", {"run_id": "$run", "key": "depth", "value": "deep"}),
            Step("POST", f"{API}/runs/log-parameter", {"run_id": "$run", "key": "depth", "value": "deeper"}),  # must not change
            Step(
                "POST",
                f"{API}/runs/log-metric",
                {"run_id": "$run", "key": "loss", "value": 0.5, "timestamp": 1700000000001, "step": 0},
            ),
            Step(
                "POST",
                f"{API}/runs/log-metric",
                {"run_id": "$run", "key": "loss", "value": "NaN", "timestamp": 1700000000002, "step": 100003},
            ),
            Step("POST", f"{API}/runs/set-tag", {"run_id": "$run", "key": "a/b c%2Fd?", "value": '"quoted"\n\t'}),
            get(f"{API}/runs/get?run_id=$run"),
            get(f"{API}/metrics/get-history?run_id=$run&metric_key=loss"),
            get("/ajax-api/2.0/mlflow/metrics/get-history-bulk?run_id=$run&run_id=$run&metric_key=loss"),
            get(f"{API}/artifacts/list?run_id=$run"),
            search(f"{API}/runs/search", {"experiment_ids": ["$experiment"], "filter": "params.depth = 'deep'"}),
            search(f"{API}/runs/search", {"experiment_ids": ["$experiment"], "filter": "no filter"}),
            Step("POST", f"{API}/runs/update", {"run_id": "$run", "status": "FINISHED", "end_time": 1700000000003}),
            Step("POST", f"{API}/runs/delete", {"run_id": "$run"}),
            Step("POST", f"{API}/runs/log-parameter", {"run_id": "$run", "key": "late", "value": "1"}),
            get(f"{API}/runs/get?run_id=$run"),
            Step("POST", f"{API}/runs/restore", {"run_id": "$run"}),
        ),
    ),
    "registry": (
        "model",
        (
            MODEL,
            MODEL,  # a conflict
            Step("POST", f"{API}/model-versions/create", {"name": "$name", "source": "mlflow-artifacts:/nobody/model"}),
            get(f"{API}/registered-models/get?name=$name"),
            get(f"{API}/registered-models/search?filter=name%3D%27$name%27"),
            search(f"{API}/registered-models/get-latest-versions", {"name": "$name"}),
            get(f"{API}/model-versions/get?name=$name&version=1"),
            get(f"{API}/model-versions/get?name=$name&version=2"),
            get(f"{API}/model-versions/get-download-uri?name=$name&version=1"),
            Step("POST", f"{API}/registered-models/alias", {"name": "$name", "alias": "champion", "version": "1"}),
            get(f"{API}/registered-models/alias?name=$name&alias=champion"),
            Step("PATCH", f"{API}/registered-models/update", {"name": "$name", "description": "scores\npayments"}),
            Step("DELETE", f"{API}/registered-models/delete-tag", {"name": "$name", "key": "team"}),
            Step("DELETE", f"{API}/model-versions/delete", {"name": "$name", "version": "1"}),
            Step("DELETE", f"{API}/registered-models/delete", {"name": "$name"}),
            get(f"{API}/registered-models/get?name=$name"),
        ),
    ),
    "logged-models": (
        "experiment",
        (
            EXPERIMENT,
            Step(
                "POST",
                f"{API}/logged-models",
                {"experiment_id": "$experiment", "name": "scorer", "params": [{"key": "depth", "value": "deep"}]},
                {"model": ("model", "info", "model_id")},
            ),
            get(f"{API}/logged-models/$model"),
            search(f"{API}/logged-models/search", {"experiment_ids": ["$experiment"]}),
            Step("PATCH", f"{API}/logged-models/$model/tags", {"tags": [{"key": "by", "value": "e2e"}]}),
            Step("PATCH", f"{API}/logged-models/$model", {"model_id": "$model", "status": "LOGGED_MODEL_READY"}),
            Step("DELETE", f"{API}/logged-models/$model/tags/by"),
            Step("DELETE", f"{API}/logged-models/$model"),
            get(f"{API}/logged-models/$model"),
        ),
    ),
    "artifacts": (
        "experiment",
        (
            EXPERIMENT,
            Step("PUT", f"{FILES}/$experiment/a%20b/%25.txt", "text ü\n".encode() * MANY),
            Step("PUT", f"{FILES}/$experiment/a%20b/page.html", b"<h1>a page</h1>\n" * MANY),
            Step("PUT", f"{FILES}/$experiment/a%20b/model.bin", bytes(range(256)) * MANY),
            Step("PUT", f"{FILES}/$experiment/a%20b/empty.json", b""),
            get(f"{FILES}?path=$experiment/a%20b"),
            get(f"{FILES}/$experiment/a%20b/%25.txt"),
            get(f"{FILES}/$experiment/a%20b/page.html"),
            get(f"{FILES}/$experiment/a%20b/model.bin"),
            get(f"{FILES}/$experiment/a%20b/empty.json"),
            get(f"{FILES}/$experiment/a%20b/nobody"),
            Step("DELETE", f"{FILES}/$experiment"),
            get(f"{FILES}?path=$experiment"),
        ),
    ),
}
CAPABILITY_OF = {"registry": "registry", "logged-models": "logged-models", "artifacts": "artifacts"}


def hold(
    conversation: Sequence[Step], name: str, ask: Callable[[Step, Request], Answer]
) -> Iterator[tuple[Step, Request, Answer, Mapping[str, str]]]:
    """Make a conversation's calls in turn, for an object of that name. Yield each with its answer and the values known so far."""
    known = {"name": name}
    for step in conversation:
        request = step.request(known)
        answer = ask(step, request)
        known |= {learnt: _value(answer.json(), keys) for learnt, keys in step.learns.items()}
        yield step, request, answer, dict(known)


def anonymous(answer: Answer, *known: Mapping[str, str]) -> Answer:
    """Return an answer without the values that are particular to some conversations.

    Pass all conversations that are compared each time: the id of one of them may happen to be a number that appears in the answers
    of all.
    """
    body = answer.body.decode("latin-1")
    items = (item for of_one in known for item in of_one.items())
    for name, value in sorted(items, key=lambda item: -len(item[1])):
        body = re.sub(rf"(?<![\w.-]){re.escape(value)}(?!\w|\.\d)", f"${name}", body)
    headers = tuple((name, value) for name, value in answer.headers if name.lower() not in HEADERS_OF_A_FILE)
    return Answer(answer.status, headers, MOMENT.sub("(a moment)", body).encode("latin-1"))


def _filled(text: str, known: Mapping[str, str]) -> str:
    return string.Template(text).substitute(known)


def _value(answer: Any, keys: Sequence[str | int]) -> str:
    for key in keys:
        answer = answer[key]
    return str(answer)
