"""Connections: each answer belongs to its request and to that request's key, whatever else the connection has carried."""

from __future__ import annotations

import http.client
import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_proxy_e2e.checks.fidelity import Run, data_of, done, examples, get, post, values_of
from mlflow_proxy_e2e.target import Identity, Route, Target, key_headers
from mlflow_proxy_e2e.version import VERSION
from mlflow_proxy_e2e.wire import Answer, Request, Wire, describe

IN_FLIGHT = 50
REFUSALS_OF_OLD_HTTP = (426, 505)


def asking_for(name: str) -> Request:
    """Return a read whose answer repeats what was asked for: the experiment does not exist."""
    return get(f"experiments/get-by-name?experiment_name={name}")


def belongs(answer: Answer, name: str) -> bool:
    """Tell whether the answer belongs to that read."""
    return answer.status == 404 and f"'{name}'" in answer.json()["message"]


@pytest.fixture
def shared(route: Route) -> Iterator[Wire]:
    """Return a connection without a key: each request brings its own."""
    with Wire(route) as wire:
        yield wire


def keyed(request: Request, identity: Identity) -> Request:
    """Return the request with the identity's key."""
    return replace(request, headers=(*key_headers(identity).items(), *request.headers))


@examples(4)
@given(data=st.data())
def test_identities_take_turns(data: st.DataObject, shared: Wire, target: Target, new_run: Callable[[], Run]) -> None:
    """On one connection, each call is judged by its own key: no permission and no denial outlasts it."""
    identities = [identity for identity in target.identities if identity.refused != "throttled"]
    turns = data.draw(st.lists(st.tuples(st.sampled_from(identities), st.booleans()), min_size=10, max_size=14))
    read, write = asking_for("taking-turns"), post("runs/set-tag", {"run_id": new_run().run_id, "key": "by", "value": "somebody"})

    for identity, writes in turns:
        allowed = identity.may("write" if writes else "read")
        expected = (200 if writes else 404) if allowed else target.contract.denial(identity).status
        answer = shared.ask(keyed(write if writes else read, identity))
        told = f"{expected} to {identity}, after {[(str(i), 'write' if w else 'read') for i, w in turns]}"
        assert answer.status == expected, describe(shared, write if writes else read, answer, told)


def test_same_connection_is_used(wire: Wire) -> None:
    """A connection stays open from one successful call to the next: after errors, some servers close it."""
    for number in (1, 2, 3):
        request = get(f"experiments/search?max_results={number}")
        done(wire, request)
        assert wire.is_open, describe(wire, request, "an answer that ends the connection", "a connection that stays open")


def test_what_is_written_is_read_every_time(wire: Wire, experiment_id: str) -> None:
    """A new run is found by each of ten reads, each on a new connection: all lead to one store."""
    created = done(wire, post("runs/create", {"experiment_id": experiment_id})).json()["run"]["info"]
    read = get(f"runs/get?run_id={created['run_id']}")

    assert [answer.json()["run"]["info"] for answer in on_new_connections(wire, read)] == [created] * 10


def test_change_is_seen(wire: Wire, experiment_id: str) -> None:
    """A tag that is set on a run that has been read is there when the run is read again."""
    run_id = done(wire, post("runs/create", {"experiment_id": experiment_id})).json()["run"]["info"]["run_id"]
    read = get(f"runs/get?run_id={run_id}")
    done(wire, read)

    done(wire, post("runs/set-tag", {"run_id": run_id, "key": "state", "value": "changed"}))

    answer = done(wire, read)
    tags = {tag["key"]: tag["value"] for tag in answer.json()["run"]["data"]["tags"]}
    assert tags.get("state") == "changed", describe(wire, read, answer, "the run with the tag 'state'")


def test_same_mlflow_every_time(wire: Wire) -> None:
    """MLflow answers ten calls, each on a new connection, with the same version: all lead to equal servers."""
    versions = {answer.body for answer in on_new_connections(wire, VERSION)}

    assert len(versions) == 1


def on_new_connections(wire: Wire, request: Request) -> Iterator[Answer]:
    """Make a call ten times, each time on a new connection, and return the answers."""
    for _ in range(10):
        wire.close()
        yield done(wire, request)


def test_pipelining(wire: Wire) -> None:
    """If two requests are sent at once, the first is answered first. The second is answered next, or the connection ends."""
    first, second = asking_for("first"), asking_for("second")

    wire.send(wire.encode(first) + wire.encode(second))
    answer = wire.receive()

    assert belongs(answer, "first"), describe(wire, first, answer, "the answer to the first of two")
    if wire.is_open:
        try:
            answer = wire.receive()
        except (http.client.RemoteDisconnected, ConnectionError):
            return
        assert belongs(answer, "second"), describe(wire, second, answer, "the answer to the second of two")


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_last_request(version: str, wire: Wire) -> None:
    """A client that asks for the connection to be closed gets the whole answer first, unless HTTP/1.0 is refused."""
    request = replace(asking_for("last"), headers=() if version == "1.0" else (("Connection", "close"),))

    wire.send(wire.encode(request).replace(b" HTTP/1.1\r\n", f" HTTP/{version}\r\n".encode(), 1))
    answer = wire.receive_last()

    is_refused = version == "1.0" and answer.status in REFUSALS_OF_OLD_HTTP
    assert is_refused or belongs(answer, "last"), describe(wire, request, answer, f"what MLflow answers (curl --http{version})")


def test_reads_in_flight(route: Route, target: Target) -> None:
    """Each of fifty concurrent reads with several keys gets its own answer."""
    readers = itertools.cycle(target.who_may("read"))
    with ExitStack() as connections:
        wires = [connections.enter_context(Wire(route, next(readers))) for _ in range(IN_FLIGHT)]
        requests = [asking_for(f"in-flight-{number}") for number in range(IN_FLIGHT)]
        for wire, request in zip(wires, requests, strict=True):
            wire.send(wire.encode(request))
        answers = [wire.receive() for wire in wires]

    for number, (wire, request, answer) in enumerate(zip(wires, requests, answers, strict=True)):
        assert belongs(answer, f"in-flight-{number}"), describe(wire, request, answer, "what was asked for")


def test_writes_in_flight(route: Route, target: Target, control: Identity, new_run: Callable[[], Run], truth_wire: Wire) -> None:
    """Of twenty concurrent writes, half of them with a key that may not write, those are refused and each of the others is done."""
    denied = target.who_may_not("write")[0]
    run = new_run()
    with ExitStack() as connections:
        wires = [connections.enter_context(Wire(route, (control, denied)[number % 2])) for number in range(20)]
        for number, wire in enumerate(wires):
            wire.send(wire.encode(post("runs/set-tag", {"run_id": run.run_id, "key": f"n{number}", "value": str(wire.identity)})))
        statuses = [wire.receive().status for wire in wires]

    assert statuses == [200, target.contract.denial(denied).status] * 10
    held = values_of(data_of(run, truth_wire)["tags"])
    assert held == {f"n{number}": str(control) for number in range(0, 20, 2)}
