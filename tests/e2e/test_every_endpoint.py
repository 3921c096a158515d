"""No endpoint of MLflow is left out: each is called by everybody, on every route.

The calls have no body and name ids that nothing has, so that nothing changes even where a gate is open. They are many and small:
one test makes all those of a part of MLflow's API, and tells of every one that went wrong.
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

from fixtures.options import selected
from mlflow_proxy_e2e.access_log import AccessLog
from mlflow_proxy_e2e.checks.denials import NO_KEY, wrong_in_denial
from mlflow_proxy_e2e.checks.oracle import Oracle, assert_none_wrong
from mlflow_proxy_e2e.endpoints.coverage import Coverage
from mlflow_proxy_e2e.endpoints.scopes import Scopes
from mlflow_proxy_e2e.endpoints.served import served
from mlflow_proxy_e2e.endpoints.table import VERBS, Endpoint, endpoints, is_missing
from mlflow_proxy_e2e.report.summary import CELLS
from mlflow_proxy_e2e.target import Caller, Carrier, Denial, Identity, Route, Target
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
SCOPES = Scopes()

# Removes the demo data, whosever it may be.
DELETES_DEMO = Endpoint("POST", "/ajax-api/3.0/mlflow/demo/delete")
HEALTH = "/health"
# What MLflow with users of its own tells everybody: clients ask how to sign in.
OPEN_BESIDE_USERS = (HEALTH, "/static-files/", "/api/3.0/mlflow/server-info", "/ajax-api/3.0/mlflow/server-info")

each_area = pytest.mark.parametrize(
    "area", [pytest.param(area, marks=pytest.mark.capability("ui") if area in FOR_PAGES else ()) for area in AREAS]
)


class Callers(threading.local):
    """The connections of one thread, to whoever it has to call as."""

    def __init__(self, route: Route, witness: Caller) -> None:
        self._route = route
        self._wires: dict[tuple[Identity | None, Carrier | None], Wire] = {}
        self.oracle = Oracle(Wire(*witness))

    def of(self, identity: Identity | None, carrier: Carrier | None = None) -> Wire:
        """Return the connection of an identity."""
        return self._wires.setdefault((identity, carrier), Wire(self._route, identity, carrier))


@pytest.fixture(scope="session")
def table(coverage: Coverage) -> Sequence[Endpoint]:
    """Return the endpoints of the installed MLflow."""
    known = endpoints()
    coverage.table.update(known)
    return known


@pytest.fixture(scope="session")
def mlflows_own() -> dict[Request, Answer]:
    """Return what MLflow itself has answered: each call is made of it once, and again only where a route answers differently."""
    return {}


@pytest.fixture
def judged(request: pytest.FixtureRequest) -> Callable[[int], None]:
    """Return what takes note of how many calls a test has judged."""
    return lambda count: request.node.user_properties.append((CELLS, count))


@pytest.fixture
def callers(route: Route, witness: Caller) -> Callers:
    """Return the connections to call through the route with, of each thread its own."""
    return Callers(route, witness)


@pytest.fixture(scope="session")
def identities(pytestconfig: pytest.Config, target: Target, insider: Identity) -> Sequence[Identity]:
    """Return one who may do everything, and then everybody else, who may the most first."""
    chosen = selected(pytestconfig, "--identity", target.identities)
    return [insider, *sorted((i for i in chosen if i != insider), key=lambda identity: -len(identity.scopes))]


@each_area
def test_who_may_call(
    area: str,
    route: Route,
    callers: Callers,
    identities: Sequence[Identity],
    insider: Identity,
    target: Target,
    table: Sequence[Endpoint],
    mlflows_own: dict[Request, Answer],
    mlflow_log: AccessLog | None,
    coverage: Coverage,
    judged: Callable[[int], None],
) -> None:
    """Who may call an endpoint gets what MLflow itself answers. Who may not is refused, and the call never reaches MLflow."""
    mark = f"denied-{uuid.uuid4().hex}"
    missing: list[str] = []

    def call(endpoint: Endpoint) -> Iterator[str | None]:
        request = endpoint.call()
        if request not in mlflows_own:
            mlflows_own[request] = callers.oracle.ask(request)
        expected = mlflows_own[request]
        if is_missing(expected):
            missing.append(str(endpoint))
            return
        coverage.matrix.add(endpoint)
        scope = SCOPES.required(request.method, request.path.partition("?")[0])
        # Who may comes first: then refusals count. They take turns with the carriers, so that each is let in with one of them.
        for identity, carrier in zip(identities, itertools.cycle(target.carriers), strict=False):
            if scope and identity.may(scope):
                yield callers.oracle.difference(request, callers.of(identity, carrier), expected)
            else:
                yield _not_denied(callers.of(identity, carrier), request.marked(mark), target.contract.denial(identity))

    outcomes = _in_threads(call, _calls_to_make(area, table, target, route))

    judged(len(outcomes))
    assert_none_wrong(outcomes)
    _assert_never_reached(mark, callers.of(insider), mlflow_log)
    assert callers.oracle.ask(VERSION).status == 200
    if served(target).version == mlflow.__version__:  # another version may lack some
        assert missing == []
    elif target.direct and not outcomes:
        pytest.skip(f"MLflow {served(target).version} lacks all of them")
    assert outcomes  # but not all: who has none of them is no MLflow, or stands in front of it with a 404 of his own


@each_area
def test_verbs_that_endpoints_do_not_have(
    area: str,
    route: Route,
    callers: Callers,
    insider: Identity,
    target: Target,
    table: Sequence[Endpoint],
    mlflow_log: AccessLog | None,
    judged: Callable[[int], None],
) -> None:
    """Whatever the verb, nobody gets in without a key. With one, HEAD is answered by MLflow, and OPTIONS by MLflow or refused.

    Where the target says that OPTIONS is open, that tells nothing of what MLflow answers to GET.
    """
    mark = f"denied-{uuid.uuid4().hex}"
    known = {(endpoint.method, endpoint.template) for endpoint in table}

    def call(endpoint: Endpoint) -> Iterator[str | None]:
        for verb in (*VERBS, "OPTIONS", "HEAD"):
            if (verb, endpoint.template) in known:
                continue
            request = replace(endpoint.call(), method=verb)
            if target.contract.is_open(verb):
                yield _as_told_by_get(request, callers.of(NO_KEY), callers.oracle)
                continue
            yield _not_denied(callers.of(NO_KEY), request.marked(mark), target.contract.denial(NO_KEY))
            if verb == "HEAD" and ("GET", endpoint.template) in known:
                yield callers.oracle.difference(request, callers.of(insider))
            elif verb in ("HEAD", "OPTIONS"):
                yield _neither_refused_nor_of_mlflow(request, callers.of(insider), callers.oracle, target)

    one_for_each_path = {endpoint.template: endpoint for endpoint in _calls_to_make(area, table, target, route)}
    outcomes = _in_threads(call, one_for_each_path.values())

    judged(len(outcomes))
    assert_none_wrong(outcomes)
    _assert_never_reached(mark, callers.of(insider), mlflow_log)


def _calls_to_make(area: str, table: Sequence[Endpoint], target: Target, route: Route) -> list[Endpoint]:
    return [endpoint for endpoint in table if _area_of(endpoint) == area and _is_judged(endpoint, target, route)]


def _is_judged(endpoint: Endpoint, target: Target, route: Route) -> bool:
    """Tell whether the endpoint may be called, and who may call it is for the gate to say."""
    if endpoint == DELETES_DEMO:
        return "destructive" in target.capabilities
    if "basic" in target.carriers:
        return not endpoint.template.startswith(OPEN_BESIDE_USERS)
    # On a route that has no path this is the first hop's own, which needs no key.
    return endpoint.template != HEALTH or urlsplit(route.url).path != ""


def _area_of(endpoint: Endpoint) -> str:
    if endpoint.template == "/":
        return "pages"
    return next(area for area, beginnings in AREAS.items() if endpoint.template.startswith(beginnings))


def _in_threads(call: Callable[[Endpoint], Iterable[str | None]], calls: Iterable[Endpoint]) -> list[str | None]:
    with ThreadPoolExecutor(THREADS) as threads:
        return [outcome for outcomes in threads.map(lambda endpoint: list(call(endpoint)), calls) for outcome in outcomes]


def _not_denied(wire: Wire, request: Request, denial: Denial) -> str | None:
    answer = wire.ask(request)
    wrong = wrong_in_denial(answer, denial, request.method)
    return describe(wire, request, answer, denial, wrong) if wrong else None


def _as_told_by_get(request: Request, through: Wire, oracle: Oracle) -> str | None:
    answer, told = through.ask(request), oracle.ask(replace(request, method="GET"))
    if not answer.body or (answer.body, 200) != (told.body, told.status):
        return None
    if through.ask(replace(request, path=f"/{uuid.uuid4().hex}")).body == answer.body:
        return None  # that is said everywhere, such as OK
    return describe(through, request, answer, "nothing of what MLflow answers to GET")


def _neither_refused_nor_of_mlflow(request: Request, through: Wire, oracle: Oracle, target: Target) -> str | None:
    refusal = target.contract.denial(Identity("who may not"))
    if not wrong_in_denial(through.ask(request), refusal, request.method):
        return None
    return oracle.difference(request, through)


def _assert_never_reached(mark: str, insider: Wire, mlflow_log: AccessLog | None) -> None:
    """Assert that no call with the mark is in MLflow's log, where a later one that was let in has already arrived."""
    if mlflow_log:
        fence = f"permitted-{uuid.uuid4().hex}"
        insider.ask(A_READ.marked(fence))
        mlflow_log.await_line_with(fence)
        reached = [_logged(line) for line in mlflow_log.lines_with(mark)]
        assert_none_wrong([describe(Wire(insider.route), request, "a refusal, and to MLflow", "a refusal") for request in reached])


def _logged(line: str) -> Request:
    """Return the request that a line of MLflow's access log is about."""
    method, path, _ = line.split('"')[1].split(" ")
    return Request(method, path)
