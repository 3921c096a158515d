"""What is right in another way than ours is: tests stay green, and no diagnosis finds anything."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fixtures.diagnosis import diagnose
from fixtures.faults.fault import Fault
from tests.harness.detections import CONVERSATION, E2E
from tests.harness.faults.conftest import SCORE, RunOn, StartFront
from tests.harness.faults.variations import VARIATIONS

TESTS = (f"{E2E}/test_smoke.py", CONVERSATION, f"{E2E}/test_denials.py::test_read", f"{E2E}/test_fidelity_requests.py::test_query")


@pytest.mark.parametrize("name", sorted(VARIATIONS))
def test_variation(name: str, start_front: StartFront, run_on: RunOn, record_property: Callable[[str, object], None]) -> None:
    """A system that is right in its own way fails no test and gets no verdict."""
    record_property(SCORE, "variations")
    variation = VARIATIONS[name]
    front = start_front(Fault(name, "proxy", "", "", "", variation.change))
    assert front.target
    target = variation.retarget(front.target)

    run = run_on(target, *TESTS, "--route", target.routes[0].name)
    ended = run.wait()
    found = diagnose(target)

    if ended != pytest.ExitCode.OK or found:
        record_property(SCORE, "false alarms")
    assert ended == pytest.ExitCode.OK, run.output
    assert found == [], "\n".join(map(str, found))
