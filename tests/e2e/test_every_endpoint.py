"""Every endpoint of MLflow is called by every identity, on every route.

The calls have no body and use ids that do not exist, so that nothing changes even where the gate is open. They are many and
small: one test makes all those for a part of MLflow's API, and reports every one that went wrong.
"""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from urllib.parse import urlsplit

import mlflow
import pytest

from mlflow_proxy_e2e.access_log import AccessLog
from mlflow_proxy_e2e.checks.denials import NO_KEY, wrong_in_denial
from mlflow_proxy_e2e.checks.gate import Marks
from mlflow_proxy_e2e.checks.oracle import Oracle, assert_none_wrong
from mlflow_proxy_e2e.endpoints.coverage import Coverage
from mlflow_proxy_e2e.endpoints.scopes import scopes_of
from mlflow_proxy_e2e.endpoints.served import served
from mlflow_proxy_e2e.endpoints.table import VERBS, Endpoint, endpoints, is_missing
from mlflow_proxy_e2e.options import selected
from mlflow_proxy_e2e.report.summary import CELLS
from mlflow_proxy_e2e.target import Caller, Carrier, Contract, Identity, Route, Target
from mlflow_proxy_e2e.version import VERSION
from mlflow_proxy_e2e.wire import Answer, Request, Wire, describe

AREAS: Mapping[str, tuple[str, ...]] = {  # the parts of MLflow's API, by how their paths begin
    "api-2.0": ("/api/2.0",),
    "api-3.0": ("/api/3.0",),
    "ajax-api-2.0": ("/ajax-api/2.0",),
    "ajax-api-3.0": ("/ajax-api/3.0",),
    "pages": ("/build", "/get-artifact", "/graphql", "/model-versions", "/static-files"),
    "other": ("/",),
}
FOR_PAGES = ("ajax-api-2.0", "ajax-api-3.0", "pages")
THREADS = 4  # that make the calls of one test
A_READ = Request("GET", "/api/2.0/mlflow/experiments/get?experiment_id=0")

pytestmark = pytest.mark.judges_policy

# Deletes the demo data, which may be in use.
DELETES_DEMO = Endpoint("POST", "/ajax-api/3.0/mlflow/demo/delete")
HEALTH = "/health"
# What MLflow with its own users serves without a key: clients ask how to sign in.
OPEN_BESIDE_USERS = (HEALTH, "/static-files/", "/api/3.0/mlflow/server-info", "/ajax-api/3.0/mlflow/server-info")

each_area = pytest.mark.parametrize(
    "area", [pytest.param(area, marks=pytest.mark.capability("ui") if area in FOR_PAGES else ()) for area in AREAS]
)


class Callers(threading.local):
    """The connections of one thread: of every identity on a route, and to MLflow itself.

    Args:
        insider: an identity with all the scopes that any identity has.
        known: MLflow's own answers: each call is made to it once, and again only if a route answers differently.
    """

    def __init__(self, route: Route, insider: Identity, truth: Caller, known: dict[Request, Answer]) -> None:
        self._route, self._insider, self._known = route, insider, known
        self._wires: dict[tuple[Identity, Carrier | None], Wire] = {}
        self.oracle = Oracle(Wire(*truth))

    def of(self, identity: Identity, carrier: Carrier | None = None) -> Wire:
        """Return the connection of an identity."""
        return self._wires.setdefault((identity, carrier), Wire(self._route, identity, carrier))

    @property
    def insider(self) -> Wire:
        """Return the insider's connection."""
        return self.of(self._insider)

    def expected(self, request: Request) -> Answer:
        """Return MLflow's own answer."""
        if request not in self._known:
            self._known[request] = self.oracle.ask(request)
        return self._known[request]


class Refusals:
    """Calls that must be refused, each with a mark that would appear in MLflow's log."""

    def __init__(self, contract: Contract, marks: Marks) -> None:
        self._contract, self._marks = contract, marks
        self._sent: dict[str, tuple[Wire, Request]] = {}

    def flaw(self, request: Request, wire: Wire) -> str | None:
        """Make a call that must be refused, and return what is wrong with the answer, or None."""
        mark, denial = self._marks.new(), self._contract.denial(wire.identity or NO_KEY)
        marked = request.marked(mark)
        self._sent[mark] = (wire, marked)
        answer = wire.ask(marked)
        wrong = wrong_in_denial(answer, denial, marked.method)
        return describe(wire, marked, answer, denial, wrong) if wrong else None

    def assert_none_reached_mlflow(self, insider: Wire) -> None:
        """Assert that MLflow has logged none of the calls, once it has logged a later call of the insider's."""
        last = self._marks.new()
        insider.ask(A_READ.marked(last))
        logged = {mark for line in self._marks.logged(last) for mark in self._marks.within(line)}
        reached = [sent for mark, sent in self._sent.items() if mark in logged]
        assert_none_wrong([describe(*sent, "a refusal, and to MLflow", "a refusal") for sent in reached])


class Judge:
    """Asserts that none of a test's calls went wrong, and reports how many there were.

    Args:
        coverage: records which endpoints have been called.
        measure: adds a measurement to reports.
    """

    def __init__(self, coverage: Coverage, measure: Callable[[str, object], None]) -> None:
        self._coverage, self._measure = coverage, measure

    def note(self, endpoint: Endpoint) -> None:
        """Record that every identity has called an endpoint."""
        self._coverage.matrix.add(endpoint)

    def assert_none_wrong(self, outcomes: Sequence[str | None]) -> None:
        """Assert that no outcome is an error message."""
        self._measure(CELLS, len(outcomes))
        assert_none_wrong(outcomes)


@pytest.fixture(scope="session")
def table(coverage: Coverage) -> Sequence[Endpoint]:
    """Return the endpoints of the installed MLflow."""
    known = endpoints()
    coverage.table.update(known)
    return known


@pytest.fixture(scope="session")
def known_answers() -> dict[Request, Answer]:
    """Return MLflow's own answers in all tests so far."""
    return {}


@pytest.fixture
def callers(route: Route, insider: Identity, witness: Caller, known_answers: dict[Request, Answer]) -> Callers:
    """Return the connections of every identity on a route."""
    return Callers(route, insider, witness, known_answers)


@pytest.fixture
def refusals(target: Target, mlflow_log: AccessLog | None) -> Refusals:
    """Return what makes calls that must be refused."""
    return Refusals(target.contract, Marks(mlflow_log))


@pytest.fixture
def judge(coverage: Coverage, measure: Callable[[str, object], None]) -> Judge:
    """Return what judges the outcomes of a test's calls."""
    return Judge(coverage, measure)


@pytest.fixture
def area_endpoints(area: str, table: Sequence[Endpoint], target: Target, route: Route) -> Sequence[Endpoint]:
    """Return the endpoints of an area that may be called on a route."""
    return [endpoint for endpoint in table if _area_of(endpoint) == area and _is_judged(endpoint, target, route)]


@pytest.fixture(scope="session")
def identities(pytestconfig: pytest.Config, target: Target, insider: Identity) -> Sequence[Identity]:
    """Return an identity that is allowed everything, and then all others, in descending order of permissions."""
    chosen = selected(pytestconfig, "--identity", target.identities)
    return [insider, *sorted((i for i in chosen if i != insider), key=lambda identity: -len(identity.scopes))]


@each_area
def test_who_may_call(
    callers: Callers,
    identities: Sequence[Identity],
    target: Target,
    area_endpoints: Sequence[Endpoint],
    refusals: Refusals,
    judge: Judge,
) -> None:
    """Identities allowed to call an endpoint get MLflow's own answer. All others are refused, and no call reaches MLflow.

    The target's policy decides who is allowed: the table of endpoints, unless its profile has another.
    """
    missing: list[str] = []
    scopes = scopes_of(target.policy)

    def call(endpoint: Endpoint) -> Iterator[str | None]:
        request = endpoint.call()
        expected = callers.expected(request)
        if is_missing(expected):
            missing.append(str(endpoint))
            return
        judge.note(endpoint)
        path = request.path.partition("?")[0]
        # Allowed identities come first: then refusals count. They rotate through the carriers, so that each carrier is let in once.
        for identity, carrier in zip(identities, itertools.cycle(target.carriers), strict=False):
            wire = callers.of(identity, carrier)
            permitted = scopes.permit(identity, request.method, path)
            if permitted:
                yield callers.oracle.difference(request, wire, expected)
            elif permitted is False:
                yield refusals.flaw(request, wire)

    outcomes = _in_threads(call, area_endpoints)

    judge.assert_none_wrong(outcomes)
    refusals.assert_none_reached_mlflow(callers.insider)
    assert callers.oracle.ask(VERSION).status == 200
    if served(target).version == mlflow.__version__:  # another version may lack some
        assert missing == []
    elif target.direct and not outcomes:
        pytest.skip(f"MLflow {served(target).version} lacks all of them")
    assert outcomes  # a server that lacks all of them is not MLflow, or a hop before it answers with a 404 of its own


@each_area
def test_verbs_that_endpoints_do_not_have(
    callers: Callers,
    target: Target,
    table: Sequence[Endpoint],
    area_endpoints: Sequence[Endpoint],
    refusals: Refusals,
    judge: Judge,
) -> None:
    """With any verb, calls without a key are refused. With a key, MLflow answers HEAD, and OPTIONS unless that is refused.

    Where the target says that OPTIONS is open, it reveals nothing of MLflow's answer to GET.
    """
    known = {(endpoint.method, endpoint.template) for endpoint in table}

    def call(endpoint: Endpoint) -> Iterator[str | None]:
        for verb in (*VERBS, "OPTIONS", "HEAD"):
            if (verb, endpoint.template) in known:
                continue
            request = replace(endpoint.call(), method=verb)
            if target.contract.is_open(verb):
                yield _as_answered_to_get(request, callers.of(NO_KEY), callers.oracle)
                continue
            if scopes_of(target.policy).permit(NO_KEY, verb, request.path.partition("?")[0]):
                yield callers.oracle.difference(request, callers.of(NO_KEY))
                continue
            yield refusals.flaw(request, callers.of(NO_KEY))
            if verb == "HEAD" and ("GET", endpoint.template) in known:
                yield callers.oracle.difference(request, callers.insider)
            elif verb in ("HEAD", "OPTIONS"):
                yield _neither_refused_nor_of_mlflow(request, callers.insider, callers.oracle, target)

    one_for_each_path = {endpoint.template: endpoint for endpoint in area_endpoints}
    outcomes = _in_threads(call, one_for_each_path.values())

    judge.assert_none_wrong(outcomes)
    refusals.assert_none_reached_mlflow(callers.insider)


def _is_judged(endpoint: Endpoint, target: Target, route: Route) -> bool:
    """Tell whether the endpoint may be called on the route, and the gate decides for whom."""
    if endpoint == DELETES_DEMO:
        return "destructive" in target.capabilities
    if endpoint.method == "GET" and endpoint.template in target.contract.open_paths:
        return False  # the gateway may answer it by itself
    if "basic" in target.carriers:
        return not endpoint.template.startswith(OPEN_BESIDE_USERS)
    # On a route without a path, this is the first hop's own, which needs no key.
    return endpoint.template != HEALTH or urlsplit(route.url).path != ""


def _area_of(endpoint: Endpoint) -> str:
    if endpoint.template == "/":
        return "pages"
    return next(area for area, beginnings in AREAS.items() if endpoint.template.startswith(beginnings))


def _in_threads(call: Callable[[Endpoint], Iterable[str | None]], calls: Iterable[Endpoint]) -> list[str | None]:
    with ThreadPoolExecutor(THREADS) as threads:
        return [outcome for outcomes in threads.map(lambda endpoint: list(call(endpoint)), calls) for outcome in outcomes]


def _as_answered_to_get(request: Request, wire: Wire, oracle: Oracle) -> str | None:
    answer, of_get = wire.ask(request), oracle.ask(replace(request, method="GET"))
    if not answer.body or (answer.body, 200) != (of_get.body, of_get.status):
        return None
    if wire.ask(replace(request, path=f"/{uuid.uuid4().hex}")).body == answer.body:
        return None  # any path gets this answer, such as OK
    return describe(wire, request, answer, "nothing of what MLflow answers to GET")


def _neither_refused_nor_of_mlflow(request: Request, wire: Wire, oracle: Oracle, target: Target) -> str | None:
    refusal = target.contract.denial(Identity("forbidden"))
    if not wrong_in_denial(wire.ask(request), refusal, request.method):
        return None
    return oracle.difference(request, wire)
