"""Verdicts on systems known only by a profile: no logs, no auth service, no direct route to MLflow."""

from __future__ import annotations

import pytest

from fixtures.faults.catalogue import FAULTS
from mlflow_proxy_e2e.diagnosis import diagnose
from tests.harness.faults.conftest import PATIENT, StartFront
from tests.harness.faults.front import WITH_A_SHARED_MLFLOW
from tests.harness.faults.variations import as_deployed, with_one_route

FROM_OUTSIDE = [fault for fault in WITH_A_SHARED_MLFLOW if FAULTS[fault].hop != "client"]

pytestmark = pytest.mark.nightly


@pytest.mark.parametrize("fault", sorted(FROM_OUTSIDE))
def test_nothing_wrong_is_said(fault: str, start_front: StartFront) -> None:
    """There may be too little evidence to name a fault, or to see it at all: then no other hop and no other cause is named."""
    front = start_front(FAULTS[fault])
    assert front.target

    for view in (as_deployed, lambda target: with_one_route(as_deployed(target))):
        for finding in diagnose(view(front.target), seconds=PATIENT).findings:
            assert FAULTS[fault].hop in finding.hops, str(finding)
            assert not finding.causes or fault in finding.causes, str(finding)
