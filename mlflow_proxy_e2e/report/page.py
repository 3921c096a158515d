"""The result as one HTML page for people, which needs nothing else and runs no script."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mlflow_proxy_e2e.report.result import ANY, Cell, Check, Outcome, Result
from mlflow_proxy_e2e.severity import SEVERITIES, Severity

if TYPE_CHECKING:
    from jinja2 import Environment

SHOWN = 50  # tests of a finding, by name
SHOWN_CHECKS = 3  # of a cell, with their messages
MESSAGE = 4000  # characters of a message
MOST = 400_000  # characters of all messages: the page is to open at once, and JSON has everything
WARNINGS: tuple[Severity, ...] = ("contract", "hardening")
MARKS: dict[Outcome, tuple[str, str]] = {  # the sign, and how it is coloured
    "passed": ("✓", "good"),
    "failed": ("✗", "bad"),
    "error": ("✗", "bad"),
    "accepted": ("‼", "warn"),
    "skipped": ("·", "none"),
}


def render(result: Result, earlier: Sequence[tuple[str, str]] = ()) -> str:
    """Return the page.

    Args:
        result: the result to show.
        earlier: when earlier runs started, and their outcomes, oldest first.
    """
    cells = {(cell.route or ANY, cell.identity or ANY, cell.capability): cell for cell in result.cells}
    shortened = _shortened(result.bad)
    return (
        _templates()
        .get_template("report.html.j2")
        .render(
            result=result,
            earlier=earlier,
            cells=cells,
            columns=sorted({(route, identity) for route, identity, _ in cells}),
            capabilities=sorted({capability for *_, capability in cells}),
            hit={hop for finding in result.wrong for hop in finding.hops},
            skipped=_skipped(result.checks),
            marks=MARKS,
            shown=SHOWN,
            level=_level,
            anchor=_anchor,
            messages=lambda cell: shortened[cell.id],
        )
    )


def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # most runs write no page

    return Environment(
        loader=PackageLoader("mlflow_proxy_e2e.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _level(severity: Severity | None) -> str:
    """Return how a severity is coloured."""
    return "warn" if severity in WARNINGS else "bad" if severity in SEVERITIES else "none"


def _anchor(cell: Cell) -> str:
    return re.sub(r"\W+", "-", cell.id)


def _shortened(bad: Sequence[Cell]) -> dict[str, tuple[Check, ...]]:
    """Return the checks of each cell that are shown with their messages, which are cut if the page would get too large."""
    found: dict[str, tuple[Check, ...]] = {}
    left = MOST
    for cell in bad:
        checks = []
        for check in cell.bad[:SHOWN_CHECKS]:
            message = check.message[: max(0, min(MESSAGE, left))]
            left -= len(message)
            if message:
                checks.append(replace(check, message=message))
        found[cell.id] = tuple(checks)
    return found


def _skipped(checks: Sequence[Check]) -> list[tuple[str, int]]:
    """Return why checks were skipped, most frequent reasons first."""
    reasons = Counter(check.message.partition("\n")[0] for check in checks if check.outcome == "skipped")
    return reasons.most_common()
