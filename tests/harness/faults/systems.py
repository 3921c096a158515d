"""Every system of the lab on which a diagnosis is tested: broken in one known way, or correct but different."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from fixtures.faults.catalogue import FAULTS
from fixtures.faults.fault import Fault
from fixtures.stack.process import ProcessStack
from mlflow_proxy_e2e.causes.cause import CauseId
from mlflow_proxy_e2e.target import Target
from tests.harness.faults.front import WITH_A_SHARED_MLFLOW, Front
from tests.harness.faults.variations import VARIATIONS

RIGHT = "right-"  # the prefix of the names of correct systems
NEVER_STARTS = "database-missing"
BROKEN = tuple(sorted(set(FAULTS) - {NEVER_STARTS}))
SYSTEMS = (*BROKEN, *(f"{RIGHT}{name}" for name in sorted(VARIATIONS)))


@contextmanager
def up(name: str, trunk: ProcessStack) -> Iterator[Target]:
    """Within the block, a system is running, and the environment is that of its user."""
    variation = VARIATIONS.get(name.removeprefix(RIGHT))
    if variation and name.startswith(RIGHT):
        stack: ProcessStack = Front(trunk, Fault(cause=CauseId(name), inject=variation.change))
    else:
        stack = Front(trunk, FAULTS[name]) if name in WITH_A_SHARED_MLFLOW else ProcessStack(fault=FAULTS[name])
    try:
        target = stack.start()
        list(stack.until_ready())
        with _environment(stack.client):
            yield variation.retarget(target) if variation and name.startswith(RIGHT) else target
    finally:
        stack.stop()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
