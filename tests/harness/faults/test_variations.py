"""Correct systems that differ from ours: tests pass, and no diagnosis finds anything."""

from __future__ import annotations

import pytest

from fixtures.faults.fault import Fault
from mlflow_proxy_e2e.causes.cause import CauseId
from tests.harness.faults.conftest import AssertRight, StartFront
from tests.harness.faults.variations import VARIATIONS


@pytest.mark.parametrize("name", sorted(VARIATIONS))
def test_variation(name: str, start_front: StartFront, assert_right: AssertRight) -> None:
    """A system that is correct in its own way."""
    variation = VARIATIONS[name]
    front = start_front(Fault(cause=CauseId(name), inject=variation.change))
    assert front.target

    assert_right(variation.retarget(front.target), *variation.tests)
