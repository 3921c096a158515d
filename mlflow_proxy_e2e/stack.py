"""How a target comes to be: each stack turns services, or a profile, into a Target."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from mlflow_proxy_e2e.run import Run
from mlflow_proxy_e2e.target import Target


class ReadyService(NamedTuple):
    """A service that has become ready, and how many seconds after the stack's start that was."""

    name: str
    seconds: float


class Stack(Protocol):
    """The life of a target. The runner owns it; workers get the target as data.

    ``say`` is how it tells the user something. ``client`` has environment variables by which a fault breaks the user's own client.
    """

    say: Callable[[str], None]
    client: Mapping[str, str]

    def outline(self) -> Target:
        """Return the target as far as it is known before anything is started: names, but neither URLs nor keys."""

    def start(self) -> Target:
        """Start what there is to start and return the target, which need not be ready yet. Raises SuiteError."""

    def until_ready(self) -> Iterator[ReadyService]:
        """Wait, and tell of each service as it becomes ready. Raises SuiteError if one never does."""

    def begin(self) -> Run:
        """Begin the run that the tests are part of. Raises SuiteError."""

    def end(self, run: Run) -> Sequence[str]:
        """Have everything removed that the run has created, and return what is left, in lines for people."""

    def logs(self) -> Iterator[tuple[str, str]]:
        """Return the name and the last lines of the log of each service."""

    def keep(self) -> str:
        """Have the stack outlive the run, and return what a person needs in order to use and to end it."""

    def stop(self) -> None:
        """Leave nothing behind, whatever state the stack is in."""
