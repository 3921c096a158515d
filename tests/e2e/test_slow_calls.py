"""Slow calls: no hop gives up on them, and no other call has to wait for them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator

import pytest

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.checks.fidelity import done, get
from mlflow_proxy_e2e.traffic import TRAFFIC
from mlflow_proxy_e2e.wire import Request, Wire, describe

pytestmark = pytest.mark.capability("artifacts")

CONTENT = hashlib.shake_128(b"slow").digest(5000)
MORE_THAN_BUFFERS_HOLD = hashlib.shake_128(b"large").digest(1_000_000) * 24


@pytest.fixture
def file(place: str, truth_wire: Wire) -> Iterator[str]:
    """Return the path of an artifact that is deleted after the test."""
    path = f"{place}/slow.bin"
    yield path
    truth_wire.ask(Request("DELETE", path))


@pytest.fixture
def others_wire(wire: Wire) -> Iterator[Wire]:
    """Return another connection like ``wire``, for calls that must not have to wait."""
    with Wire(wire.route, wire.identity, timeout=timeouts.BESIDE) as others:
        yield others


def fastest(wire: Wire, request: Request) -> float:
    """Return the shortest of the times that three such requests take, in seconds."""

    def seconds() -> float:
        began = TRAFFIC.clock()
        done(wire, request)
        return TRAFFIC.clock() - began

    return min(seconds() for _ in range(3))


def test_read_is_answered_at_once(wire: Wire, direct_wire: Wire) -> None:
    """A read through all hops takes hardly longer than one made directly."""
    read = get("experiments/search?max_results=1")

    own, through = fastest(direct_wire, read), fastest(wire, read)

    took = describe(wire, read, f"an answer after {through:.2f} s", f"one within {timeouts.SLOWER:g} s more than {own:.2f} s")
    assert through - own <= timeouts.SLOWER, took


def test_upload_with_pause(wire: Wire, truth_wire: Wire, file: str) -> None:
    """An upload that pauses for some seconds is stored completely."""
    upload = Request("PUT", file, body=CONTENT)
    data = wire.encode(upload)

    wire.send(data[:-1000])
    time.sleep(timeouts.PAUSE)
    wire.send(data[-1000:])
    answer = wire.receive("PUT")

    assert answer.status == 200, describe(wire, upload, answer, f"200, after a pause of {timeouts.PAUSE:g} s in the body")
    assert done(truth_wire, Request("GET", file)).body == CONTENT


@pytest.mark.capability("large-bodies")
def test_download_with_pause(wire: Wire, truth_wire: Wire, file: str) -> None:
    """A download arrives completely if the client reads nothing for some seconds."""
    done(truth_wire, Request("PUT", file, body=MORE_THAN_BUFFERS_HOLD))

    wire.send(wire.encode(Request("GET", file)))
    time.sleep(timeouts.PAUSE)
    answer = wire.receive()

    assert answer.status == 200
    assert answer.body == MORE_THAN_BUFFERS_HOLD


def test_others_during_upload(wire: Wire, others_wire: Wire, file: str) -> None:
    """While an upload goes on, other calls are answered."""
    upload, other = Request("PUT", file, body=CONTENT), get("experiments/get?experiment_id=0")
    data = wire.encode(upload)

    wire.send(data[:-1000])
    try:
        answer = others_wire.ask(other)
    except TimeoutError:
        wire.close()  # otherwise the call that removes the file has to wait as well
        message = describe(others_wire, other, f"nothing for {timeouts.BESIDE:g} s, while an upload goes on", 200)
        raise AssertionError(message) from None
    wire.send(data[-1000:])

    assert (answer.status, wire.receive("PUT").status) == (200, 200)
