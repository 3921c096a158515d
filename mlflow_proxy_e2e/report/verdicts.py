"""What a diagnosis has found, where people read it first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mlflow_proxy_e2e.diagnosis.verdict import Verdict

VERDICTS = pytest.StashKey["list[Verdict]"]()  # where the controller's configuration holds them
SHOWN = 3  # verdicts: what explains most comes first


def write(reporter: pytest.TerminalReporter, verdicts: list[Verdict]) -> None:
    """Write the verdicts."""
    if not verdicts:
        return
    reporter.write_sep("=", "verdict", red=True)
    reporter.write_line(str(verdicts[0]))
    for verdict in verdicts[1:SHOWN]:
        reporter.write_sep("-", "also")
        reporter.write_line(str(verdict))
