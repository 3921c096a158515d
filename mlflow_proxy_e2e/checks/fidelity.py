"""What tests of byte fidelity share: generated values and their spellings, and the comparison with MLflow's own answers."""

from __future__ import annotations

import json
import random
from typing import Any, NamedTuple
from urllib.parse import quote

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from mlflow_proxy_e2e.checks.oracle import Oracle
from mlflow_proxy_e2e.wire import JSON, Answer, Request, Wire, describe

API = "/api/2.0/mlflow"
UNRESERVED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"  # equivalent whether they are escaped or not

# Texts that lose a mark, a joiner or a change of direction if a hop normalises, re-encodes or trims them.
AWKWARD = (
    *("#1?", "a%2Fb", "a%252Fb", "%", "100%25", "one+two", "one two", "one;two", "a=1&b=2", "<b>&amp;</b>", "\"quoted\" 'text'"),
    *(" leading", "trailing ", ".hidden", "dots...", "back\\slash", "${HOME}", "{{x}}", "*", "~", "|"),
    *("e\u0301 is not \u00e9", "\ufb01", "\u03a9 \u2126", "\u6a21\u578b", "\U0001f469\u200d\U0001f680", "\U0001f1e9\U0001f1ea"),
    *(
        "\u0645\u0631\u062d\u0628\u0627",
        "\u202eabc\u202c",
        "\ufeffbom",
        "\u00a0",
        "\u2028",
        "\x7f",
        "a\tb",
        "a\r\nb",
        "\u0130\u0131\u017f\u00df",
    ),
)

ANY_CHARACTER = st.characters(exclude_categories=["Cs"])
texts = st.one_of(st.sampled_from(AWKWARD), st.text(ANY_CHARACTER, max_size=40))


def examples(number: int) -> settings:
    """Return the setting to run a test with this many generated examples: the same ones every time, with no database.

    An example is a batch of values, so that MLflow is called once for all of them. The test picks out what differs: shrinking would
    make some hundred times more calls.
    """
    return settings(
        max_examples=number,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        # Examples share the test's fixtures: they use keys and names of their own.
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
        report_multiple_bugs=False,
    )


def escaped(text: str, legal: str, choice: random.Random) -> str:
    """Return the text percent-encoded in one of many correct ways: unreserved characters may be escaped, digits in either case."""
    return "".join(_escaped(character, legal + UNRESERVED, choice) for character in text)


def _escaped(character: str, legal: str, choice: random.Random) -> str:
    if character in legal and choice.random() < 0.8:
        return character
    code = "".join(f"%{byte:02x}" for byte in character.encode())
    return code if choice.random() < 0.5 else code.upper()


def in_query(text: str) -> str:
    """Return the text as the value of a query parameter."""
    return quote(text, safe="")


def spelled(value: Any, choice: random.Random) -> bytes:
    """Return the value as JSON in one of many correct ways: order of keys, white space, characters escaped or not."""
    return json.dumps(
        _shuffled(value, choice),
        ensure_ascii=choice.random() < 0.5,
        indent=choice.choice([None, None, 0, 3, "\t"]),
        separators=choice.choice([(",", ":"), (", ", ": "), (" ,\r\n", " :\t")]),
    ).encode()


def _shuffled(value: Any, choice: random.Random) -> Any:
    if isinstance(value, dict):
        return {key: _shuffled(value[key], choice) for key in choice.sample(list(value), len(value))}
    return [_shuffled(item, choice) for item in value] if isinstance(value, list) else value


def post(path: str, content: Any) -> Request:
    """Return a call to MLflow's API with a JSON body: ``content`` as JSON, or these exact bytes."""
    return Request("POST", f"{API}/{path}", JSON, content if isinstance(content, bytes) else json.dumps(content).encode())


def get(path: str) -> Request:
    """Return a read from MLflow's API; ``path`` has the query exactly as it is to be sent."""
    return Request("GET", f"{API}/{path}")


def done(wire: Wire, request: Request) -> Answer:
    """Return the answer to a request, which must succeed."""
    answer = wire.ask(request)
    if answer.status != 200:
        raise AssertionError(describe(wire, request, answer, 200))
    return answer


def assert_same(request: Request, wire: Wire, direct_wire: Wire) -> None:
    """Assert that a route answers as MLflow itself does."""
    if found := Oracle(direct_wire).difference(request, wire):
        raise AssertionError(found)


def assert_held(held: dict[str, Any], sent: dict[str, Any], wire: Wire, request: Request) -> None:
    """Assert that each value is stored as it was sent, under its key, and that nothing else is.

    Values are compared as they print, since NaN does not equal itself.
    """
    wrong = {key: (sent.get(key), held.get(key)) for key in {**sent, **held} if repr(sent.get(key)) != repr(held.get(key))}
    if wrong:
        some = dict(list(wrong.items())[:3])
        message = describe(wire, request, f"{len(wrong)} of {len(sent)} not as sent, such as (sent, held): {some!a}", "all as sent")
        raise AssertionError(message)


class Run(NamedTuple):
    """A run and its experiment."""

    run_id: str
    experiment_id: str

    @property
    def artifacts(self) -> str:
        """Return the path of its artifacts."""
        return f"/api/2.0/mlflow-artifacts/artifacts/{self.experiment_id}/{self.run_id}/artifacts"


def data_of(run: Run, wire: Wire) -> dict[str, Any]:
    """Return the data of one run as a listing of the experiment's runs has it, so that no written name is part of the request."""
    listing = done(wire, post("runs/search", {"experiment_ids": [run.experiment_id], "max_results": 1000})).json()
    data = next(listed["data"] for listed in listing["runs"] if listed["info"]["run_id"] == run.run_id)
    return {kind: {entry["key"]: entry for entry in data.get(kind, ())} for kind in ("metrics", "params", "tags")}


def values_of(entries: dict[str, Any]) -> dict[str, Any]:
    """Return the values of such tags or parameters by key, without those that MLflow sets itself."""
    return {key: entry.get("value", "") for key, entry in entries.items() if not key.startswith("mlflow.")}
