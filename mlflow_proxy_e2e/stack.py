"""How a target is started: each stack turns services, or a profile, into a Target."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from mlflow_proxy_e2e.run import Run
from mlflow_proxy_e2e.target import Target


class ReadyService(NamedTuple):
    """A service that has become ready, and the seconds since the stack's start."""

    name: str
    seconds: float


class Stack(Protocol):
    """The life of a target. The controller owns it; workers get the target as data.

    ``say`` prints to the user. ``client`` has the environment variables by which a fault breaks the user's own client.
    """

    say: Callable[[str], None]
    client: Mapping[str, str]

    def outline(self) -> Target:
        """Return the target as far as it is known before the start: names, but neither URLs nor keys."""

    def start(self) -> Target:
        """Start what must be started, and return the target, which need not be ready yet. Raises SuiteError."""

    def until_ready(self) -> Iterator[ReadyService]:
        """Wait for the services, and yield each as it becomes ready. Raises SuiteError if one does not."""

    def begin(self) -> Run:
        """Begin the run that the tests belong to. Raises SuiteError."""

    def end(self, run: Run) -> Sequence[str]:
        """Remove everything that the run has created, and return what is left, as lines for people."""

    def logs(self) -> Iterator[tuple[str, str]]:
        """Return the name and the last lines of the log of each service."""

    def keep(self) -> str:
        """Keep the stack running after the run, and return what a person needs to use and to stop it."""

    def stop(self) -> None:
        """Leave nothing behind, whatever state the stack is in."""
