"""Calls that an identity is not allowed are refused, in one exact way, and have no effect. Reads of every kind are permitted."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import mlflow
import pytest
import requests
from _pytest.mark import ParameterSet  # pytest has no public name for what pytest.param returns
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.genai.scorers import Guidelines

from mlflow_proxy_e2e.checks.denials import NO_KEY, Refused, assert_denied, assert_discreet, assert_raised, echoes
from mlflow_proxy_e2e.clients import client_of, signed_in
from mlflow_proxy_e2e.rest import Rest
from mlflow_proxy_e2e.scratch import Scratch
from mlflow_proxy_e2e.target import CARRIERS, Caller, Carrier, Contract, Denial, Identity, Route, Secret, Target, key_headers

API = "/api/2.0/mlflow"
EXPERIMENT = f"{API}/experiments/get?experiment_id={{experiment_id}}"
RUN = f"{API}/runs/get?run_id={{run_id}}"
MODEL = f"{API}/registered-models/get?name={{model}}"
MODEL_VERSION = f"{API}/model-versions/get?name={{model}}&version=1"
LOGGED_MODEL = f"{API}/logged-models/{{logged_model_id}}"
API_3 = "/api/3.0/mlflow"
IS_PROMPT = "mlflow.prompt.is_prompt"  # the tag of a registered model that makes it a prompt
TRACE = f"{API_3}/traces/get?trace_id={{trace_id}}"
ASSESSMENTS = f"{API_3}/traces/{{trace_id}}/assessments"
DATASET = f"{API_3}/datasets/{{dataset_id}}"
PROMPT = f"{API}/registered-models/get?name={{prompt}}"
ARTIFACT = "/api/2.0/mlflow-artifacts/artifacts{artifacts}/notes.txt"
WEBHOOK = f"{API}/webhooks/{{webhook_id}}"

MADE_UP = Identity("made-up", refused="unauthenticated", key=Secret("no-key-of-anybody"))


@dataclass(frozen=True, eq=False)
class Call:
    """A call that represents others of its subject and kind.

    ``{names}`` in the path and the body are filled in from the subjects. ``{mark}`` is a word for each caller: it tells
    one caller's write from another's.

    Args:
        shown_by: the read that shows what a write would change.
        capability: what the target must declare for it; several are separated by spaces.
    """

    name: str
    method: str
    path: str
    body: Mapping[str, Any] | str | None = None
    shown_by: str = ""
    capability: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def send(self, rest: Rest, subjects: Mapping[str, str], mark: str = "") -> requests.Response:
        """Make the call."""
        names = {**subjects, "mark": mark}
        path, headers = self.path.format(**names), _filled(self.headers, names)
        if isinstance(self.body, str):
            return rest.request(self.method, path, data=self.body.format(**names), headers=headers)
        return rest.request(self.method, path, json=_filled(self.body, names), headers=headers)


def _filled(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return value.format(**names)
    if isinstance(value, Mapping):
        return {key: _filled(item, names) for key, item in value.items()}
    return [_filled(item, names) for item in value] if isinstance(value, list) else value


READS = (
    Call("get-experiment", "GET", EXPERIMENT),
    # MLflow searches with POST: a proxy that decides by method takes these for writes.
    Call("search-experiments", "POST", f"{API}/experiments/search", {"max_results": 1, "filter": "name = '{experiment}'"}),
    Call("get-run", "GET", RUN),
    Call("search-runs", "POST", f"{API}/runs/search", {"experiment_ids": ["{experiment_id}"]}),
    Call("get-registered-model", "GET", MODEL, capability="registry"),
    Call("get-model-version", "GET", MODEL_VERSION, capability="registry"),
    Call("get-logged-model", "GET", LOGGED_MODEL, capability="logged-models"),
    Call("download-artifact", "GET", ARTIFACT, capability="artifacts"),
)
READS_OF_PARTS = (
    Call(
        "search-traces",
        "POST",
        f"{API_3}/traces/search",
        {"locations": [{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "{experiment_id}"}}]},
        capability="traces",
    ),
    Call("get-assessment", "GET", f"{ASSESSMENTS}/{{assessment_id}}", capability="traces"),
    Call("search-datasets", "POST", f"{API_3}/datasets/search", {"experiment_ids": ["{experiment_id}"]}, capability="datasets"),
    Call(
        "list-prompts",
        "GET",
        f"{API}/registered-models/search?filter=tags.%60{IS_PROMPT}%60%3D'true'+AND+name%3D'{{prompt}}'",
        capability="prompts",
    ),
    Call("get-scorer", "GET", f"{API_3}/scorers/get?experiment_id={{experiment_id}}&name=kept", capability="scorers"),
    Call(
        "query-graphql",
        "POST",
        "/graphql",
        {
            "query": "query($run: MlflowGetRunInput!) {{ mlflowGetRun(input: $run) {{ run {{ info {{ runUuid }} }} }} }}",
            "variables": {"run": {"runId": "{run_id}"}},
        },
        capability="graphql",
    ),
    Call("get-webhook", "GET", WEBHOOK, capability="webhooks"),
    # Outside /api and /ajax-api: a proxy that guards only those leaves these open.
    Call("download-artifact-from-page", "GET", "/get-artifact?run_id={run_id}&path=notes.txt", capability="artifacts ui"),
    Call("get-page", "GET", "/", capability="ui"),
    Call("list-gateway-models", "GET", "/gateway/mlflow/v1/models", capability="gateway"),
)
SET_RUN_TAG = Call("set-run-tag", "POST", f"{API}/runs/set-tag", {"run_id": "{run_id}", "key": "by", "value": "{mark}"}, RUN)
WRITES = (
    Call(
        "set-experiment-tag",
        "POST",
        f"{API}/experiments/set-experiment-tag",
        {"experiment_id": "{experiment_id}", "key": "by", "value": "{mark}"},
        EXPERIMENT,
    ),
    SET_RUN_TAG,
    Call(
        "log-metric",
        "POST",
        f"{API}/runs/log-metric",
        {"run_id": "{run_id}", "key": "{mark}", "value": 1.0, "timestamp": 1},
        RUN,
    ),
    Call(
        "update-registered-model",
        "PATCH",
        f"{API}/registered-models/update",
        {"name": "{model}", "description": "{mark}"},
        MODEL,
        "registry",
    ),
    # The model has the tag that a denied call tries to delete. The control's does not, so that its call can be repeated.
    Call(
        "delete-registered-model-tag",
        "DELETE",
        f"{API}/registered-models/delete-tag",
        {"name": "{model}", "key": "{mark}"},
        MODEL,
        "registry",
    ),
    Call(
        "update-model-version",
        "PATCH",
        f"{API}/model-versions/update",
        {"name": "{model}", "version": "1", "description": "{mark}"},
        MODEL_VERSION,
        "registry",
    ),
    Call(
        "tag-logged-model",
        "PATCH",
        f"{LOGGED_MODEL}/tags",
        {"tags": [{"key": "by", "value": "{mark}"}]},
        LOGGED_MODEL,
        "logged-models",
    ),
    Call("upload-artifact", "PUT", ARTIFACT, "{mark}", ARTIFACT, "artifacts"),
)
WRITES_OF_PARTS = (
    Call("tag-trace", "PATCH", f"{API_3}/traces/{{trace_id}}/tags", {"key": "by", "value": "{mark}"}, TRACE, "traces"),
    # OTLP: a span that is sent again replaces the existing one.
    Call(
        "send-span",
        "POST",
        "/v1/traces",
        {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "{otlp_id}", "spanId": "1" * 16, "name": "{mark}"}]}]}]},
        TRACE,
        "traces",
        {"x-mlflow-experiment-id": "{experiment_id}"},
    ),
    Call(
        "log-assessment",
        "POST",
        ASSESSMENTS,
        {"assessment": {"assessment_name": "{mark}", "feedback": {"value": True}}},
        TRACE,
        "traces",
    ),
    Call("tag-dataset", "PATCH", f"{DATASET}/tags", {"tags": '{{"by": "{mark}"}}'}, DATASET, "datasets"),
    Call(
        "tag-prompt",
        "POST",
        f"{API}/registered-models/set-tag",
        {"name": "{prompt}", "key": "by", "value": "{mark}"},
        PROMPT,
        "prompts",
    ),
    Call(
        "register-scorer",
        "POST",
        f"{API_3}/scorers/register",
        {"experiment_id": "{experiment_id}", "name": "{mark}", "serialized_scorer": "{{}}"},
        f"{API_3}/scorers/list?experiment_id={{experiment_id}}",
        "scorers",
    ),
    Call(
        "upload-artifact-from-page",
        "POST",
        "/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run_id}&path=notes.txt",
        "{mark}",
        ARTIFACT,
        "artifacts ui",
    ),
    Call("update-webhook", "PATCH", WEBHOOK, {"description": "{mark}"}, WEBHOOK, "webhooks"),
)


# A proxy that decides by method takes this for a read: MLflow calls a model gateway for the caller.
GET_THAT_ACTS = Call("call-gateway", "GET", "/ajax-api/2.0/mlflow/gateway-proxy?gateway_path=api/2.0/endpoints/")

AssertPermitted = Callable[[Call, Route, Carrier], None]


@dataclass(frozen=True)
class Sender:
    """Makes calls as an identity, on a route, with its key in a carrier, to a target with a contract."""

    route: Route
    identity: Identity
    carrier: Carrier
    contract: Contract
    subjects: Mapping[str, str]

    @property
    def denial(self) -> Denial:
        """Return how the identity is refused a call that it is not allowed."""
        return self.contract.denial(self.identity)

    def send(self, call: Call) -> requests.Response:
        """Make a call."""
        with Rest(self.route, self.identity, self.carrier) as rest:
            return call.send(rest, self.subjects, mark(self.route, self.identity, self.carrier))


class RefusedClient(NamedTuple):
    """An MLflow client of an identity that is not allowed a call, and the refusal that it must raise."""

    mlflow: MlflowClient
    denial: Denial


def mark(route: Route, identity: Identity, carrier: Carrier) -> str:
    """Return the word that marks the writes of one caller."""
    return f"{route}-{identity}-{carrier}"


def each(calls: Sequence[Call], of_parts: Sequence[Call]) -> pytest.MarkDecorator:
    """Run a test once for every call whose capabilities the target declares: with every carrier, or with each in turn."""

    def pairs(target: Target) -> list[ParameterSet]:
        every, in_turn = itertools.product(calls, target.carriers), zip(of_parts, itertools.cycle(target.carriers), strict=False)
        return [
            pytest.param(call, carrier, id=f"{carrier}-{call.name}", marks=pytest.mark.capability(*call.capability.split()))
            for call, carrier in (*every, *in_turn)
        ]

    return pytest.mark.parametrize_by_target(("call", "carrier"), pairs)


@pytest.fixture(scope="module")
def subjects(target: Target, witness: Caller, shared_scratch: Scratch) -> Mapping[str, str]:
    """Return the names of the calls' subjects: one of each kind that the target declares, created once for all tests."""
    with signed_in(*witness) as client:  # for the fluent API
        return _create_subjects(client, shared_scratch, target)


def _create_subjects(client: MlflowClient, scratch: Scratch, target: Target) -> Mapping[str, str]:
    experiment = scratch.experiment()
    experiment_id = client.create_experiment(experiment)
    run = client.create_run(experiment_id).info
    names = {"experiment": experiment, "experiment_id": experiment_id, "run_id": run.run_id}
    if "registry" in target.capabilities:
        names["model"] = scratch.model()
        denied = itertools.product(target.routes, target.who_may_not("write"), target.carriers)
        client.create_registered_model(names["model"], tags={mark(*caller): "to be kept" for caller in denied})
        client.create_model_version(names["model"], f"{run.artifact_uri}/model", run.run_id, await_creation_for=0)
    if "logged-models" in target.capabilities:
        names["logged_model_id"] = client.create_logged_model(experiment_id).model_id
    if "artifacts" in target.capabilities:
        names["artifacts"] = run.artifact_uri.removeprefix("mlflow-artifacts:")
        client.log_text(run.run_id, "to be read", "notes.txt")
    if "webhooks" in target.capabilities:
        # An address that cannot be called, and disabled as well: see test_webhooks.
        names["webhook_id"] = client.create_webhook(
            scratch.webhook(), "https://239.255.0.1:65536/", ["budget_policy.exceeded"], status="DISABLED"
        ).webhook_id
    return names | _create_subjects_of_genai(client, scratch, target, experiment_id)


def _create_subjects_of_genai(client: MlflowClient, scratch: Scratch, target: Target, experiment_id: str) -> dict[str, str]:
    names: dict[str, str] = {}
    if "traces" in target.capabilities:
        trace_id = client.start_trace("answer", experiment_id=experiment_id).trace_id
        client.end_trace(trace_id)
        assessment_id = mlflow.log_feedback(trace_id=trace_id, name="correct", value=True).assessment_id
        names |= {"trace_id": trace_id, "otlp_id": trace_id.removeprefix("tr-"), "assessment_id": assessment_id or ""}
    if "datasets" in target.capabilities:
        names["dataset_id"] = client.create_dataset(scratch.dataset(), experiment_id).dataset_id
    if "prompts" in target.capabilities:
        names["prompt"] = scratch.prompt()
        client.create_prompt(names["prompt"])
    if "scorers" in target.capabilities:
        Guidelines(name="kept", guidelines="Be polite.").register(experiment_id=experiment_id)
    return names


@pytest.fixture(scope="module")
def assert_permitted(control: Identity, subjects: Mapping[str, str], record: Record) -> AssertPermitted:
    """Return a function that asserts that a call succeeds for an identity that is allowed it, once for each route and carrier."""

    @cache
    def assert_succeeds(call: Call, route: Route, carrier: Carrier) -> None:
        with Rest(route, control, carrier) as rest:
            assert call.send(rest, subjects, mark(route, control, carrier)).status_code == 200
        record.forget()

    return assert_succeeds


class Record:
    """The state of the subjects in MLflow. Each test starts with the last state seen, unless a write was permitted."""

    def __init__(self, truth_rest: Rest, subjects: Mapping[str, str]) -> None:
        self._truth_rest, self._subjects = truth_rest, subjects
        self._seen: dict[str, str] = {}

    def before(self, call: Call) -> str:
        """Return the state of the call's subject before."""
        return self._seen.get(call.shown_by) or self.now(call)

    def now(self, call: Call) -> str:
        """Return its state now."""
        answer = self._truth_rest.get(call.shown_by.format(**self._subjects))
        assert answer.status_code == 200
        if self._seen.get(call.shown_by, answer.text) != answer.text:
            self.forget()  # the write was let through, and other reads may show it, too
        self._seen[call.shown_by] = answer.text
        return answer.text

    def forget(self) -> None:
        """Read everything again: it may have changed."""
        self._seen.clear()


@pytest.fixture(scope="module")
def record(witness: Caller, subjects: Mapping[str, str]) -> Iterator[Record]:
    """Return the record of what the writes are about."""
    with Rest(*witness) as truth_rest:
        yield Record(truth_rest, subjects)


@pytest.fixture
def permitted_reader(route: Route, can_read: Identity, carrier: Carrier, target: Target, subjects: Mapping[str, str]) -> Sender:
    """Return each identity that may read, on each route."""
    return Sender(route, can_read, carrier, target.contract, subjects)


@pytest.fixture
def denied_reader(route: Route, cannot_read: Identity, carrier: Carrier, target: Target, subjects: Mapping[str, str]) -> Sender:
    """Return each identity that may not read, on each route."""
    return Sender(route, cannot_read, carrier, target.contract, subjects)


@pytest.fixture
def denied_writer(route: Route, cannot_write: Identity, carrier: Carrier, target: Target, subjects: Mapping[str, str]) -> Sender:
    """Return each identity that may not write, on each route."""
    return Sender(route, cannot_write, carrier, target.contract, subjects)


@pytest.fixture
def denied_reader_client(route: Route, cannot_read: Identity, target: Target) -> RefusedClient:
    """Return an MLflow client of each identity that may not read, on each route."""
    return RefusedClient(client_of(Caller(route, cannot_read)), target.contract.denial(cannot_read))


@pytest.fixture
def denied_writer_client(route: Route, cannot_write: Identity, target: Target) -> RefusedClient:
    """Return an MLflow client of each identity that may not write, on each route."""
    return RefusedClient(client_of(Caller(route, cannot_write)), target.contract.denial(cannot_write))


@pytest.fixture
def without_key(route: Route, target: Target) -> Iterator[Refused]:
    """Return a caller without a key, on each route."""
    with Rest(route) as rest:
        yield Refused(rest, target.contract.denial(NO_KEY))


@pytest.fixture
def permitted_path(route: Route, target: Target, subjects: Mapping[str, str], assert_permitted: AssertPermitted) -> str:
    """Return the path of a read that has succeeded on the route for an identity that may read."""
    assert_permitted(READS[0], route, target.carriers[0])
    return EXPERIMENT.format(**subjects)


@pytest.fixture
def both_carriers(target: Target) -> None:
    """Skip if keys can be sent in only one way."""
    if set(target.carriers) != set(CARRIERS):
        pytest.skip(f"the target takes keys one way only: {', '.join(target.carriers)}")


def content(answer: requests.Response) -> Any:
    """Return the content of an answer. Two MLflow servers may write an object's keys in different orders."""
    return answer.json() if "json" in answer.headers["Content-Type"] else answer.content


@pytest.mark.severity("down")
@each(READS, READS_OF_PARTS)
def test_read(call: Call, permitted_reader: Sender, truth_rest: Rest) -> None:
    """An identity that may read gets MLflow's own answer, with any carrier, and nothing of the key."""
    answer = permitted_reader.send(call)

    expected = call.send(truth_rest, permitted_reader.subjects)
    assert (answer.status_code, expected.status_code) == (200, 200)
    assert content(answer) == content(expected)
    assert_discreet(answer)


@each(READS, READS_OF_PARTS)
def test_denied_read(call: Call, denied_reader: Sender, assert_permitted: AssertPermitted) -> None:
    """An identity that may not read is refused, and the answer says nothing but the reason."""
    assert_permitted(call, denied_reader.route, denied_reader.carrier)

    answer = denied_reader.send(call)

    assert_denied(answer, denied_reader.denial)


@each(WRITES, WRITES_OF_PARTS)
def test_denied_write(call: Call, denied_writer: Sender, assert_permitted: AssertPermitted, record: Record) -> None:
    """An identity that may not write is refused, and MLflow's data is unchanged."""
    assert_permitted(call, denied_writer.route, denied_writer.carrier)
    before = record.before(call)

    answer = denied_writer.send(call)
    after = record.now(call)  # before anything can fail: the next test starts here

    assert_denied(answer, denied_writer.denial)
    assert after == before


@pytest.mark.capability("scopes", "ui")
def test_denied_get_that_acts(
    route: Route, refused_writer: Refused, target: Target, subjects: Mapping[str, str], assert_permitted: AssertPermitted
) -> None:
    """A GET that makes MLflow act for the caller is refused to identities that may not write, readers included."""
    assert_permitted(GET_THAT_ACTS, route, target.carriers[0])

    answer = GET_THAT_ACTS.send(refused_writer.rest, subjects)

    assert_denied(answer, refused_writer.denial)


@pytest.mark.capability("scopes")
def test_denied_unlisted_endpoint(refused_writer: Refused, truth_rest: Rest, target: Target) -> None:
    """Endpoints that MLflow lacks are not open: without write permission, there is a refusal, or a 404 that is not MLflow's."""
    if "basic" in target.carriers:
        pytest.skip("MLflow refuses its own users only what it has")
    path = f"{API}/runs/no-such-endpoint"

    answer = refused_writer.rest.post(path, json={})

    assert answer.status_code >= 400
    assert answer.text != truth_rest.post(path, json={}).text


def test_client_raises_denied_read(
    client: MlflowClient, denied_reader_client: RefusedClient, subjects: Mapping[str, str], requests_sent: list[str]
) -> None:
    """The MLflow client raises the refusal of a read after a single request: there is no redirect to a login page."""
    assert client.get_run(subjects["run_id"]).info.run_id == subjects["run_id"]
    requests_sent.clear()

    with pytest.raises(MlflowException) as refusal:
        denied_reader_client.mlflow.get_run(subjects["run_id"])

    assert_raised(refusal.value, denied_reader_client.denial)
    assert requests_sent == ["GET"]


def test_client_raises_denied_write(
    client: MlflowClient, denied_writer_client: RefusedClient, subjects: Mapping[str, str], record: Record, requests_sent: list[str]
) -> None:
    """The MLflow client raises the refusal of a write after a single request, and nothing is written."""
    client.set_tag(subjects["run_id"], "client", "permitted")
    record.forget()
    before = record.before(SET_RUN_TAG)
    requests_sent.clear()

    with pytest.raises(MlflowException) as refusal:
        denied_writer_client.mlflow.set_tag(subjects["run_id"], "client", "refused")

    assert_raised(refusal.value, denied_writer_client.denial)
    assert requests_sent == ["POST"]
    assert record.now(SET_RUN_TAG) == before


@pytest.mark.capability("destructive")
@pytest.mark.parametrize("parameter", ["access_token", "api_key"])
def test_denied_key_in_query(parameter: str, without_key: Refused, control: Identity, permitted_path: str) -> None:
    """A good key in the query string counts as no key: a URL ends up in logs, histories and referrers."""
    assert control.key
    key = control.key.reveal()

    try:
        answer = without_key.rest.get(permitted_path, params={parameter: key})
    except requests.RequestException as error:
        raise AssertionError(f"no answer: {type(error).__name__}") from None  # the message has the URL in it

    assert_denied(answer, without_key.denial)
    assert not echoes(answer, key)


def test_denied_options(without_key: Refused, permitted_path: str, subjects: Mapping[str, str], target: Target) -> None:
    """A browser's preflight request needs a key like any other call, or reveals nothing if the target says that it is open."""
    preflight = {"Origin": "https://example.com", "Access-Control-Request-Method": "GET"}

    answer = without_key.rest.options(permitted_path, headers=preflight)

    if target.contract.is_open("OPTIONS"):
        assert subjects["experiment"] not in answer.text
    else:
        assert_denied(answer, without_key.denial)


@pytest.mark.severity("contract")
def test_path_without_rule(route: Route, control: Identity, target: Target) -> None:
    """A path that no rule covers gets a 404, in the format of all errors of the hop that answers."""
    if not target.hops:
        pytest.skip("what else is served there, beside MLflow, is not known")
    url = urlsplit(route.url)
    code = "ENDPOINT_NOT_FOUND" if target.contract.errors == "mlflow" else None

    with Rest(replace(route, url=f"{url.scheme}://{url.netloc}"), control) as rest:
        answer = rest.get("/no-such-rule")

    assert_denied(answer, Denial(404, code, None))


@pytest.mark.usefixtures("both_carriers")
def test_denied_bad_bearer_beside_good_key(
    route: Route, control: Identity, target: Target, subjects: Mapping[str, str], assert_permitted: AssertPermitted
) -> None:
    """An invalid bearer token is refused whatever X-API-Key says: the first carrier decides."""
    assert_permitted(READS[0], route, "x-api-key")

    with Rest(route, MADE_UP, "bearer") as rest:
        answer = rest.get(EXPERIMENT.format(**subjects), headers=key_headers(control, "x-api-key"))

    assert_denied(answer, target.contract.denial(MADE_UP))


@pytest.mark.severity("contract")
@pytest.mark.usefixtures("both_carriers")
def test_good_bearer_beside_bad_key(route: Route, control: Identity, subjects: Mapping[str, str]) -> None:
    """A good bearer token counts, whatever X-API-Key says: the first carrier decides."""
    with Rest(route, control, "bearer") as rest:
        answer = rest.get(EXPERIMENT.format(**subjects), headers=key_headers(MADE_UP, "x-api-key"))

    assert answer.status_code == 200
    assert answer.json()["experiment"]["experiment_id"] == subjects["experiment_id"]
    assert_discreet(answer)
