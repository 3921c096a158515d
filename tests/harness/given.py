"""A plugin that makes a run use a running target, from the file that the environment variable GIVEN_TARGET names."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from mlflow_proxy_e2e.run import Run
from mlflow_proxy_e2e.stack import ReadyService
from mlflow_proxy_e2e.target import Target

VARIABLE = "GIVEN_TARGET"


class GivenStack:
    """Another run's stack: it is neither started nor stopped."""

    def __init__(self) -> None:
        self.say: Callable[[str], None] = lambda _: None
        self.client: Mapping[str, str] = {}
        self._target = Target.from_data(json.loads(Path(os.environ[VARIABLE]).read_text()))

    def outline(self) -> Target:
        """Return the target."""
        return self._target

    def start(self) -> Target:
        """Return the target."""
        return self._target

    def until_ready(self) -> Iterator[ReadyService]:
        """Return at once."""
        return iter(())

    def begin(self) -> Run:
        """Begin a run without a journal: everything it creates disappears with the stack."""
        return Run.begin()

    def end(self, run: Run) -> Sequence[str]:  # noqa: ARG002
        """Return that nothing is left."""
        return ()

    def logs(self) -> Iterator[tuple[str, str]]:
        """Return no logs."""
        return iter(())

    def keep(self) -> str:
        """Do nothing."""
        return ""

    def stop(self) -> None:
        """Do nothing."""


@pytest.hookimpl(tryfirst=True)
def pytest_mlflow_stack() -> GivenStack:
    """Use the target instead of starting a stack."""
    return GivenStack()
