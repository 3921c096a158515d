"""MLflow's access log: which requests have reached it. Only for stacks whose logs can be read from here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.waiting import wait_until

# How a log is read, by the scheme of its place. A stack that runs services elsewhere adds its own scheme.
READERS: dict[str, Callable[[str], str]] = {"file": lambda path: Path(path).read_text(errors="replace")}


class AccessLog:
    """The access logs of all servers of one MLflow.

    Args:
        places: ``file:PATH``, or ``SCHEME:NAME`` with a scheme of READERS, each the log of one server.
    """

    def __init__(self, places: Sequence[str]) -> None:
        self._places = places

    def lines_with(self, mark: str) -> list[str]:
        """Return the lines that contain a word."""
        return [line for place in self._places for line in _lines_with(mark, _read(place))]

    def await_line_with(self, mark: str) -> None:
        """Wait until a line contains a word. Raises TimeoutError."""
        wait_until(lambda: self.lines_with(mark), timeouts.LOGGED, "a request that MLflow has answered is to be in its access log")


def _lines_with(mark: str, text: str) -> Iterator[str]:
    # Only the requested lines are split off, as a log may have many megabytes.
    position = text.find(mark)
    while position >= 0:
        start, end = text.rfind("\n", 0, position) + 1, text.find("\n", position)
        yield text[start : end if end >= 0 else None]
        position = text.find(mark, end) if end >= 0 else -1


def _read(place: str) -> str:
    scheme, _, name = place.partition(":")
    return READERS[scheme](name)
