"""A recorded run: what the recorder writes and the replay reads.

It imports next to nothing, since the start of the replay is part of what is measured.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

TEST_THREAD = 0  # the thread that runs the tests


class Exchange(NamedTuple):
    """A request that MLflow has answered.

    Args:
        began: when it was sent, in seconds of a clock that all threads of a worker share.
        thread: what sent it: TEST_THREAD, or the id of a thread that a test or a client has started.
        path: relative to MLflow's root, with the query.
        headers: those that MLflow acts by, and none with a key.
        body: a body that was streamed, or is large, is only its size in bytes.
        status: of the answer.
        answer: the answer's body, if it is JSON and was not streamed.
    """

    began: float
    thread: int
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes | int | None
    status: int
    answer: bytes | None


def write(exchanges: Sequence[Exchange], file: Path) -> None:
    """Write the exchanges of a worker."""
    file.write_bytes(pickle.dumps([tuple(exchange) for exchange in exchanges]))


def read(file: Path) -> list[Exchange]:
    """Return the exchanges of a worker, in the order in which they began."""
    exchanges = [Exchange(*exchange) for exchange in pickle.loads(file.read_bytes())]  # noqa: S301 - this run wrote it
    return sorted(exchanges, key=lambda exchange: exchange.began)
