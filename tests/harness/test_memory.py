"""What passes through a hop does not stay in it: memory stays flat however much is transferred."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping

import psutil
import pytest

from fixtures.stack.process import ProcessStack, ServiceProcess
from mlflow_proxy_e2e.rest import Rest

HOPS = ("auth", "edge", "proxy")  # our own; MLflow's memory is not our concern
MEBI = 2**20
MOST_GROWTH = 64 * MEBI  # of one hop: a few connections' buffers, and a tiny part of a gigabyte
BLOCK = 1_000_000
BLOCKS = 1000
SECONDS = 300.0  # for any answer to begin: MLflow has to write a gigabyte to disk first


class Memory:
    """How much memory each hop uses, before and at its peak."""

    def __init__(self, stack: ProcessStack) -> None:
        running = {name: stack.running[name] for name in HOPS}
        self._processes = {name: psutil.Process(it.process.pid) for name, it in running.items() if isinstance(it, ServiceProcess)}
        self.before = self._now()
        self.peak = dict(self.before)

    def look(self) -> None:
        """Record what each hop uses now."""
        self.peak = {name: max(self.peak[name], now) for name, now in self._now().items()}

    def growth(self) -> Mapping[str, int]:
        """Return how many bytes each hop has grown at its peak."""
        return {name: self.peak[name] - self.before[name] for name in HOPS}

    def _now(self) -> dict[str, int]:
        return {name: process.memory_info().rss for name, process in self._processes.items()}


class Upload:
    """A gigabyte, generated block by block, with no two blocks alike. Memory is measured after each."""

    def __init__(self, memory: Memory) -> None:
        self.checksum, self._memory = hashlib.sha256(), memory

    def __len__(self) -> int:
        return BLOCK * BLOCKS

    def __iter__(self) -> Iterator[bytes]:
        for number in range(BLOCKS):
            block = random.Random(number).randbytes(BLOCK)
            self.checksum.update(block)
            yield block
            self._memory.look()


@pytest.fixture(scope="module")
def stack() -> Iterator[ProcessStack]:
    """Return a stack for this module alone, so that no other transfers are in its memory."""
    stack = ProcessStack()
    try:
        stack.start()
        for _ in stack.until_ready():
            pass
        yield stack
    finally:
        stack.stop()


def test_gigabyte(stack: ProcessStack) -> None:
    """A gigabyte goes up and comes down through the external route, complete, and no hop keeps more than it is passing on."""
    assert stack.target
    path = "/api/2.0/mlflow-artifacts/artifacts/memory/gigabyte.bin"
    received, size = hashlib.sha256(), 0

    with Rest(stack.target.route("external"), stack.target.identity("writer")) as caller:
        caller.put(path, data=b"small", timeout=SECONDS).raise_for_status()  # what a hop loads for its first call is not growth
        memory = Memory(stack)
        sent = Upload(memory)
        uploaded = caller.put(path, data=sent, timeout=SECONDS)
        with caller.get(path, stream=True, timeout=SECONDS) as downloaded:
            for block in downloaded.iter_content(BLOCK):
                received.update(block)
                size += len(block)
                memory.look()
        deleted = caller.delete(path, timeout=SECONDS)

    assert (uploaded.status_code, downloaded.status_code, deleted.status_code) == (200, 200, 200)
    assert (size, received.hexdigest()) == (len(sent), sent.checksum.hexdigest())
    grown = {name: f"{growth / MEBI:.0f} MiB" for name, growth in memory.growth().items() if growth > MOST_GROWTH}
    assert not grown, f"grew by more than {MOST_GROWTH // MEBI} MiB while a gigabyte passed: {grown}"
