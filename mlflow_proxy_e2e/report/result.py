"""The result of a run: the one structure that all reports are written from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal

from mlflow_proxy_e2e.severity import FAIL_ON, SEVERITIES, UNKNOWN, Severity, rank, worst

if TYPE_CHECKING:
    from mlflow_proxy_e2e.diagnosis.verdict import Finding, Verdict

Outcome = Literal["passed", "failed", "error", "accepted", "skipped"]
OUTCOMES: tuple[Outcome, ...] = ("failed", "error", "accepted", "passed", "skipped")  # worst first
FORMAT = 2  # of the data: raised when a field is removed or changes its meaning, not when one is added
REACHABLE = "reachable"  # the capability of a route that can be reached: reported where it cannot
ANY = "any"  # used where a check belongs to no particular route or identity
ENDS: Mapping[int, str] = {0: "passed", 1: "failed", 2: "interrupted", 5: "empty"}  # by pytest's exit codes


@dataclass(frozen=True)
class Check:
    """The outcome of one test.

    Args:
        id: pytest's own, which is the same in every run.
        route, identity: what it was run with; None if nothing in particular.
        capability: what it was about.
        outcome: ``failed`` if the target did not do what it should, ``error`` if the target did not provide what the check needs,
            ``accepted`` if one of them is listed in the profile's [accept].
        seconds: including set-up and clean-up.
        message: why it did not pass.
        severity: of the failure; None if the target is not to blame for any.
        accepted: why the failure is accepted; empty if it is not.
    """

    id: str
    route: str | None
    identity: str | None
    capability: str
    outcome: Outcome
    seconds: float
    message: str = ""
    severity: Severity | None = None
    accepted: str = ""

    @property
    def is_bad(self) -> bool:
        """Tell whether something is wrong with the target that the profile does not accept."""
        return self.outcome in ("failed", "error")

    def then(self, later: Check) -> Check:
        """Return the check with the outcome of another phase added."""
        worse = min(self, later, key=lambda check: OUTCOMES.index(check.outcome))
        return replace(worse, seconds=self.seconds + later.seconds)


@dataclass(frozen=True)
class Cell:
    """The outcome of all checks of one capability by one identity on one route."""

    route: str | None
    identity: str | None
    capability: str
    checks: tuple[Check, ...]

    @property
    def id(self) -> str:
        """Return the cell's id, which is the same in every run."""
        return f"{self.route or ANY}/{self.identity or ANY}/{self.capability}"

    @property
    def outcome(self) -> Outcome:
        """Return the worst outcome."""
        return min((check.outcome for check in self.checks), key=OUTCOMES.index)

    @property
    def bad(self) -> tuple[Check, ...]:
        """Return the checks for which the target is to blame."""
        return tuple(check for check in self.checks if check.is_bad)

    @property
    def severity(self) -> Severity | None:
        """Return the severity of the worst of them, or None if there are none."""
        return worst(check.severity for check in self.bad if check.severity) if self.bad else None

    @property
    def seconds(self) -> float:
        """Return the total time of the checks."""
        return sum(check.seconds for check in self.checks)


@dataclass(frozen=True)
class Trouble:
    """Where the suite itself failed, and why. It says nothing about the target."""

    where: str
    message: str


@dataclass(frozen=True)
class Result:
    """The result of a run.

    Args:
        target: its name.
        routes: the names of the routes that were asked for.
        seconds: from the start of the run, including that of the lab's own stack.
        suite: the version of this suite.
        mlflow: the version of the target's MLflow, if known.
        fail_on: the severities that make the run fail.
        verdict: what is wrong with the target, if it was diagnosed.
        errors: what is wrong with the suite.
        left_behind: what the run created and could not remove.
    """

    target: str
    routes: tuple[str, ...]
    started: datetime
    seconds: float
    suite: str
    mlflow: str | None
    exit_code: int
    checks: tuple[Check, ...]
    fail_on: tuple[str, ...] = FAIL_ON
    verdict: Verdict | None = None
    errors: tuple[Trouble, ...] = ()
    left_behind: tuple[str, ...] = ()

    @property
    def outcome(self) -> str:
        """Return ``passed``, ``failed``, ``interrupted``, ``empty`` if nothing was tested, or ``error`` if the suite failed."""
        return ENDS.get(self.exit_code) or ("failed" if self.bad and not self.errors else "error")

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Return all findings, worst first and accepted ones last."""
        return self.verdict.findings if self.verdict else ()

    @property
    def wrong(self) -> tuple[Finding, ...]:
        """Return the findings that the profile does not accept."""
        return self.verdict.wrong if self.verdict else ()

    @property
    def accepted(self) -> tuple[Check, ...]:
        """Return the checks whose failure is accepted."""
        return tuple(check for check in self.checks if check.outcome == "accepted")

    @property
    def counts(self) -> Mapping[Outcome, int]:
        """Return the number of checks for each outcome."""
        found = Counter(check.outcome for check in self.checks)
        return {outcome: found[outcome] for outcome in OUTCOMES}

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Return the checks by route, identity and capability, in this order."""
        cells: dict[tuple[str | None, str | None, str], list[Check]] = {}
        for check in self.checks:
            cells.setdefault((check.route, check.identity, check.capability), []).append(check)
        return tuple(sorted((Cell(*where, tuple(checks)) for where, checks in cells.items()), key=lambda cell: cell.id))

    @property
    def bad(self) -> tuple[Cell, ...]:
        """Return the cells in which something is wrong, worst first."""
        return tuple(sorted((cell for cell in self.cells if cell.bad), key=lambda cell: rank(cell.severity or UNKNOWN)))

    @property
    def severities(self) -> Mapping[Severity, int]:
        """Return how many failed checks there are of each severity, without accepted ones."""
        found = Counter(check.severity for cell in self.bad for check in cell.bad)
        return {severity: found[severity] for severity in SEVERITIES}

    def is_up(self, route: str) -> bool:
        """Tell whether anything works through a route."""
        return any(check.outcome == "passed" for check in self.checks if check.route == route)

    def to_data(self) -> dict[str, Any]:
        """Return the result as plain data, as ``docs/report.schema.json`` describes it."""
        return {
            "format": FORMAT,
            "target": self.target,
            "started": self.started.isoformat(timespec="milliseconds"),
            "seconds": round(self.seconds, 3),
            "suite": self.suite,
            "mlflow": self.mlflow,
            "outcome": self.outcome,
            "exit_code": self.exit_code,
            "fail_on": list(self.fail_on),
            "counts": dict(self.counts),
            "severities": dict(self.severities),
            "routes": {route: self.is_up(route) for route in self.routes},
            "verdict": self.verdict.to_data() if self.verdict else None,
            "errors": [asdict(error) for error in self.errors],
            "left_behind": list(self.left_behind),
            "cells": [_cell(cell) for cell in self.cells],
            "checks": [{**asdict(check), "seconds": round(check.seconds, 3)} for check in self.checks],
        }


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "id": cell.id,
        "route": cell.route,
        "identity": cell.identity,
        "capability": cell.capability,
        "outcome": cell.outcome,
        "severity": cell.severity,
        "checks": len(cell.checks),
        "seconds": round(cell.seconds, 3),
    }


def reachable(route: str) -> str:
    """Return the id of the check that a route can be reached."""
    return f"{REACHABLE}[{route}]"


def subject_of(file: str) -> str:
    """Return the default subject of the tests in a file: ``tests/e2e/test_runs.py`` is about ``runs``."""
    return PurePath(file).stem.removeprefix("test_").replace("_", "-")
