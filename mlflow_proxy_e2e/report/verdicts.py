"""The verdict at the end of the terminal's output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mlflow_proxy_e2e.diagnosis.verdict import Verdict

VERDICT = pytest.StashKey["Verdict"]()  # where the controller's configuration holds it
SHOWN = 10  # findings, and groups of failed tests that no finding accounts for


def write(reporter: pytest.TerminalReporter, verdict: Verdict | None) -> None:
    """Write all findings, worst first, the failed tests that none accounts for, and what is accepted."""
    if not verdict:
        return
    reporter.write_sep("=", "verdict", red=bool(verdict.wrong or verdict.unexplained))
    for number, finding in enumerate(verdict.wrong[:SHOWN]):
        if number:
            reporter.write_sep("-", "also")
        reporter.write_line(str(finding))
    for group in verdict.unexplained[:SHOWN]:
        reporter.write_sep("-", "failed tests that no finding accounts for")
        reporter.write_line(str(group))
    for kind, items in (("findings", verdict.wrong), ("groups of failed tests", verdict.unexplained)):
        if len(items) > SHOWN:
            reporter.write_line(f"and {len(items) - SHOWN} more {kind}")
    for finding in verdict.findings[len(verdict.wrong) :]:
        reporter.write_sep("-", "accepted")
        reporter.write_line(str(finding))
    if verdict.not_asked:
        reporter.write_line(f"Not asked (out of time): {', '.join(verdict.not_asked)}")
