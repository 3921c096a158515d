"""The catalogue of faults, as people read it."""

from __future__ import annotations

import pytest

from fixtures.faults.catalogue import FAULTS, RENAMED
from fixtures.faults.pages import listing, page
from mlflow_proxy_e2e.causes.catalogue import CATALOGUE
from mlflow_proxy_e2e.causes.cause import CauseId
from tests.harness.conftest import ROOT, StartRun
from tests.harness.detections import DETECTED_BY

NEVER_STARTS = {"database-missing"}  # there is no system to test: see test_bad_input


def test_page_of_faults() -> None:
    """The documentation has the catalogue as it is."""
    assert (ROOT / "docs" / "faults.md").read_text() == page()


def test_every_fault_brings_about_a_known_cause() -> None:
    """What can be injected is in the catalogue of causes."""
    assert set(FAULTS) <= set(CATALOGUE)


def test_former_ids() -> None:
    """A former id names a fault that there is, and is not the id of another."""
    assert set(RENAMED.values()) <= set(FAULTS)
    assert not set(RENAMED) & set(FAULTS)


def test_every_fault_is_shown_to_be_detected() -> None:
    """No fault is in the catalogue without a test that it turns red."""
    assert set(FAULTS) == set(DETECTED_BY) | NEVER_STARTS


def test_list_of_faults(start_run: StartRun) -> None:
    """The catalogue is printed on its own: each fault below its hop, with what it looks like, and nothing is started."""
    run = start_run("--list-faults")

    assert run.wait() == pytest.ExitCode.OK
    assert run.output.strip() == listing().strip()
    for fault in FAULTS:
        assert f"  {fault}\n    symptom  {CATALOGUE[CauseId(fault)].symptom}\n" in run.output
