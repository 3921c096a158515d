"""Correct systems that differ from ours: tests pass, and no diagnosis finds anything."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fixtures.faults.fault import Fault
from fixtures.faults.suite import EVERY
from mlflow_proxy_e2e.causes.cause import CauseId
from mlflow_proxy_e2e.target import Policy
from tests.harness.faults.conftest import AssertRight, RunOn, StartFront
from tests.harness.faults.variations import VARIATIONS


@pytest.mark.parametrize("name", sorted(VARIATIONS))
def test_variation(name: str, start_front: StartFront, assert_right: AssertRight) -> None:
    """A system that is correct in its own way."""
    variation = VARIATIONS[name]
    front = start_front(Fault(cause=CauseId(name), inject=variation.change))
    assert front.target

    assert_right(variation.retarget(front.target), *variation.tests)


def test_policy_that_is_not_kept(start_front: StartFront, run_on: RunOn) -> None:
    """A target fails if its policy differs from the one in its profile: every endpoint is tested against that."""
    front = start_front(None)
    assert front.target
    target = replace(front.target, policy=Policy("method"))

    run = run_on(target, f"{EVERY}[external-api-2.0]")

    assert run.wait() == pytest.ExitCode.TESTS_FAILED, run.output
    assert " as reader (" in run.output
