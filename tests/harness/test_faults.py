"""The suite's own ability to fail: on a system with a fault, exactly the tests that the fault concerns turn red."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import pytest

from fixtures.faults import CATALOGUE
from fixtures.faults.__main__ import page
from tests.harness.conftest import ROOT, StartRun

E2E = "tests/e2e"
READ = (f"{E2E}/test_experiments.py::test_get_experiment",)
CALLS = (f"{E2E}/test_denials.py::test_read",)
DENIED_READS = (f"{E2E}/test_denials.py::test_denied_read",)
DENIED_WRITES = (f"{E2E}/test_denials.py::test_denied_write",)


class Detection(NamedTuple):
    """Which e2e tests are run on the faulty system, and a pattern of the ids that turn red. All others must stay green."""

    tests: tuple[str, ...]
    red: str


DETECTED_BY: Mapping[str, Detection] = {
    "rule-straight-to-mlflow": Detection(READ, "external"),
    "tls-hostname": Detection(READ, "external"),
    "authorization-lost": Detection(CALLS, "external.*bearer"),
    "body-limit": Detection((f"{E2E}/test_artifacts.py::test_large_file",), "external"),
    "key-check-off": Detection(DENIED_READS, ""),
    "strip-none": Detection(READ, ""),
    "proxy-loop": Detection(READ, ""),
    "port-refused": Detection(READ, ""),
    "carrier-ignored": Detection(CALLS, "x-api-key"),
    "query-collapse": Detection((f"{E2E}/test_metrics.py::test_metric_history_of_several_runs", *READ), "several_runs"),
    "error-body-replaced": Detection((f"{E2E}/test_experiments.py::test_get_unknown_experiment", *READ), "unknown"),
    "method-filter": Detection((f"{E2E}/test_registered_models.py::test_delete_registered_model", *READ), "delete"),
    "scope-not-checked": Detection(DENIED_WRITES, "reader"),
    "method-taken-for-scope": Detection(CALLS, "reader.*(search-|graphql)"),
    "revocation-ignored": Detection(DENIED_READS, "revoked"),
    "expiry-ignored": Detection(DENIED_READS, "expired"),
    "rate-limit-not-enforced": Detection(DENIED_READS, "throttled"),
    "ratelimit-as-401": Detection(DENIED_READS, "throttled"),
    "service-not-checked": Detection(DENIED_READS, "other-service"),
    "artifacts-disabled": Detection((f"{E2E}/test_experiments.py::test_default_artifact_location", *READ), "artifact_location"),
    "host-refused": Detection(READ, ""),
}
NEVER_STARTS = {"database-missing"}  # there is no system to test: see test_bad_input


@pytest.mark.parametrize("fault", DETECTED_BY)
def test_fault_turns_its_tests_red(start_run: StartRun, fault: str) -> None:
    """A system with this fault fails the tests that the fault concerns, and no others."""
    tests, red = DETECTED_BY[fault]

    run = start_run(*tests, "--fault", fault)

    assert run.wait() == pytest.ExitCode.TESTS_FAILED, run.output
    outcomes = run.outcomes()
    failed = {name for name, outcome in outcomes.items() if outcome != "passed"}
    assert failed == {name for name in outcomes if re.search(red, name)}
    assert failed


def test_page_of_faults() -> None:
    """The documentation has the catalogue as it is."""
    assert (ROOT / "docs" / "faults.md").read_text() == page()


def test_every_fault_is_shown_to_be_detected() -> None:
    """No fault is in the catalogue without a test that it turns red."""
    assert set(CATALOGUE) == set(DETECTED_BY) | NEVER_STARTS
