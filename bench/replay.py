"""Sends what a worker has recorded straight to an MLflow server: ``python -m bench.replay RECORDING URL``.

Prints how many requests were sent, and how many of them were answered with the recorded status.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import urllib3

from bench.exchange import TEST_THREAD, Exchange, read

TIMEOUT = 60.0  # seconds, for one answer
CONNECTIONS = 16  # that are kept: as many as there are threads at once
# A server may close a connection at the moment at which it is used again.
RETRIES = urllib3.Retry(1, allowed_methods=None, respect_retry_after_header=False)
# Identifiers in requests and answers: each server assigns its own.
IDENTIFIER = re.compile(
    rb"\b(?:[a-z]{1,3}-)?[0-9a-f]{32}\b"
    rb"|(?<=experiment_id=)\d+|(?<=experiment_ids=)\d+|(?<=/artifacts/)\d+(?=/)"
    rb'|(?<="experiment_id": ")\d+|(?<="experiment_ids": \[")\d+'
)


class Replay:
    """Sends the exchanges of one worker, with recorded identifiers replaced by those that this server has assigned."""

    def __init__(self, url: str) -> None:
        self._pool = urllib3.connection_from_url(url, maxsize=CONNECTIONS, timeout=TIMEOUT, retries=RETRIES)
        self._now: dict[bytes, bytes] = {}

    def run(self, exchanges: Iterable[Exchange]) -> list[bool]:
        """Send everything, and return for each answer whether it has the recorded status.

        Requests of the test thread are sent one after the other. Requests that other threads sent in between are sent by as many
        threads, none waiting for another, and the next request of the test thread waits for all of them.
        """
        alike: list[bool] = []
        for _, phase in itertools.groupby(exchanges, key=lambda exchange: exchange.thread == TEST_THREAD):
            threads: dict[int, list[Exchange]] = defaultdict(list)
            for exchange in phase:
                threads[exchange.thread].append(exchange)
            with ThreadPoolExecutor(len(threads)) as executor:
                alike += itertools.chain.from_iterable(executor.map(self._send_in_turn, threads.values()))
        return alike

    def _send_in_turn(self, exchanges: Sequence[Exchange]) -> list[bool]:
        return [self._send(exchange) for exchange in exchanges]

    def _send(self, exchange: Exchange) -> bool:
        body = bytes(exchange.body) if isinstance(exchange.body, int) else exchange.body and self._renewed(exchange.body)
        path = self._renewed(exchange.path.encode()).decode()
        headers = {
            name: self._now.get(text := value.encode("latin-1"), text).decode("latin-1") for name, value in exchange.headers.items()
        }
        answer = self._pool.urlopen(exchange.method, path, body, headers, redirect=False)
        if exchange.answer is not None:
            self._learn(exchange.answer, answer.data)
        return answer.status == exchange.status

    def _renewed(self, text: bytes) -> bytes:
        return IDENTIFIER.sub(lambda match: self._now.get(match[0], match[0]), text)

    def _learn(self, then: bytes, now: bytes) -> None:
        """Map the identifiers of a recorded answer to those of the answer now, if there are equally many."""
        before, after = IDENTIFIER.findall(then), IDENTIFIER.findall(now)
        if len(before) == len(after):
            for old, new in zip(before, after, strict=True):
                self._now.setdefault(old, new)


if __name__ == "__main__":
    outcomes = Replay(sys.argv[2]).run(read(Path(sys.argv[1])))
    print(len(outcomes), sum(outcomes))
