"""Calls that take their time: nobody on the way loses patience with them, and nobody else has to wait for them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator

import pytest

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.checks.fidelity import done, get
from mlflow_proxy_e2e.target import Identity, Route
from mlflow_proxy_e2e.wire import Request, Wire, describe

pytestmark = pytest.mark.capability("artifacts")

CONTENT = hashlib.shake_128(b"slow").digest(5000)
MORE_THAN_BUFFERS_HOLD = hashlib.shake_128(b"large").digest(1_000_000) * 24


@pytest.fixture
def file(place: str, witness_wire: Wire) -> Iterator[str]:
    """Return the path of an artifact that does not stay."""
    path = f"{place}/slow.bin"
    yield path
    witness_wire.ask(Request("DELETE", path))


def test_upload_with_pause(through: Wire, witness_wire: Wire, file: str) -> None:
    """An upload that pauses for some seconds is stored whole."""
    upload = Request("PUT", file, body=CONTENT)
    data = through.encode(upload)

    through.send(data[:-1000])
    time.sleep(timeouts.PAUSE)
    through.send(data[-1000:])
    answer = through.receive("PUT")

    assert answer.status == 200, describe(through, upload, answer, f"200, after a pause of {timeouts.PAUSE:g} s in the body")
    assert done(witness_wire, Request("GET", file)).body == CONTENT


@pytest.mark.capability("large-bodies")
def test_download_with_pause(through: Wire, witness_wire: Wire, file: str) -> None:
    """A download of which nothing is taken for some seconds arrives whole."""
    done(witness_wire, Request("PUT", file, body=MORE_THAN_BUFFERS_HOLD))

    through.send(through.encode(Request("GET", file)))
    time.sleep(timeouts.PAUSE)
    answer = through.receive()

    assert answer.status == 200
    assert answer.body == MORE_THAN_BUFFERS_HOLD


def test_others_during_upload(route: Route, control: Identity, through: Wire, file: str) -> None:
    """While somebody's upload goes on, others are answered."""
    upload, others = Request("PUT", file, body=CONTENT), get("experiments/get?experiment_id=0")
    data = through.encode(upload)

    through.send(data[:-1000])
    with Wire(route, control, timeout=timeouts.BESIDE) as wire:
        try:
            answer = wire.ask(others)
        except TimeoutError:
            through.close()  # or what removes the file has to wait as well
            message = describe(wire, others, f"nothing for {timeouts.BESIDE:g} s, while an upload goes on", 200)
            raise AssertionError(message) from None
    through.send(data[-1000:])

    assert (answer.status, through.receive("PUT").status) == (200, 200)
