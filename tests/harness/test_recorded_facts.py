"""The catalogue on recorded facts, without a service: what is found in each system of the lab, and that nothing else is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from mlflow_proxy_e2e.causes.catalogue import CATALOGUE
from mlflow_proxy_e2e.causes.cause import CauseId
from mlflow_proxy_e2e.diagnosis import conclude
from mlflow_proxy_e2e.facts.facts import Facts
from mlflow_proxy_e2e.facts.recording import Recording
from mlflow_proxy_e2e.target import Policy
from tests.harness.faults.systems import BROKEN, RIGHT, SYSTEMS

MOST_CAUSES = 2  # that a finding may leave open on the lab's own stack


def test_every_system_is_recorded(recordings: Mapping[str, Path]) -> None:
    """Every system of the lab has recorded facts, and no other has: ``tox -e record`` makes them."""
    assert set(recordings) == set(SYSTEMS)


@pytest.mark.parametrize("cause", BROKEN)
def test_cause(cause: str, recordings: Mapping[str, Path]) -> None:
    """The injected cause is found, at its hop, and nothing else is."""
    verdict = conclude(Facts.recorded(Recording.read(recordings[cause])))

    (finding,) = verdict.findings
    assert cause in finding.causes
    assert len(finding.causes) <= MOST_CAUSES
    assert CATALOGUE[CauseId(cause)].hop in finding.hops
    assert [promise.found for promise in verdict.promises if promise.outcome == "broken"] == [finding.causes]


@pytest.mark.parametrize("name", [name for name in SYSTEMS if name.startswith(RIGHT)])
def test_right_system(name: str, recordings: Mapping[str, Path]) -> None:
    """Nothing is found in a correct system."""
    verdict = conclude(Facts.recorded(Recording.read(recordings[name])))

    assert verdict.findings == ()
    assert [promise.text for promise in verdict.promises if promise.outcome in ("broken", "accepted")] == []


def test_what_cannot_be_judged(recordings: Mapping[str, Path]) -> None:
    """On the lab's own stack, all promises but one can be judged: nothing is said to be open there."""
    verdict = conclude(Facts.recorded(Recording.read(recordings["right-as-it-is"])))

    unjudged = {promise.text: promise.gaps for promise in verdict.promises if promise.outcome == "not judged"}
    assert unjudged == {"paths that need no key reveal nothing": ("no open_paths are declared",)}


@pytest.mark.parametrize("cause", ["read-key-denied-read", "get-taken-for-read"])
def test_decision_that_is_the_deployments_own(cause: str, recordings: Mapping[str, Path]) -> None:
    """If the profile says that the method decides, the consequences are not a fault."""
    recording = Recording.read(recordings[cause])
    target = replace(recording.target, policy=Policy("method"))

    verdict = conclude(Facts.recorded(Recording(target, recording.observations)))

    assert verdict.findings == ()


def test_recordings_have_no_key(recordings: Mapping[str, Path]) -> None:
    """Keys are replaced, and no file of the recording machine is named."""
    for file in recordings.values():
        target = json.loads(file.read_text())["target"]
        assert {identity["key"] for identity in target["identities"]} <= {None, "[key]"}
        assert {hop["log"] for hop in target["hops"]} <= {""}
        assert {route["ca"] for route in target["routes"]} == {None}
