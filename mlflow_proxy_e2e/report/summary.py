"""The end of the terminal's output: the matrix of results, what was exercised, and the services' logs if something failed."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence

import pytest

from mlflow_proxy_e2e.endpoints.coverage import Coverage
from mlflow_proxy_e2e.redaction import without
from mlflow_proxy_e2e.report.matrix import Matrix
from mlflow_proxy_e2e.report.result import Cell, Result
from mlflow_proxy_e2e.target import Secret
from mlflow_proxy_e2e.wire import described

CELLS = "cells"  # the user property of a test with the number of calls (endpoint and caller) that it has checked
REVOKED = "seconds from revocation to denial"  # the user property of a test that has measured them
EXPIRED = "seconds from expiry to denial"
NAMES_WIDTH = 32  # characters in a column of names; further names go on further lines
SHOWN = 20  # items of each kind that are listed
SCREEN_WIDTH = 120  # characters
LINE_LENGTH = 300  # characters of a failure, on a few lines of a screen
GAP = "  "  # between columns


def write_logs(reporter: pytest.TerminalReporter, logs: Iterable[tuple[str, str]], secrets: Iterable[Secret]) -> None:
    """Write the end of every service's log: name and last lines of each. Keys in it are left out."""
    hidden = tuple(secrets)
    for name, lines in logs:
        reporter.write_sep("-", f"log of the service '{name}'")
        reporter.write_line(without(hidden, lines))


def write(reporter: pytest.TerminalReporter, result: Result, coverage: Coverage) -> None:
    """Write the matrix, what is wrong, and the counts.

    Args:
        reporter: pytest's own, which has the reports of all tests.
        result: the run's result.
        coverage: which endpoints were exercised.
    """
    if result.cells:
        _write_matrix(reporter, Matrix.of(result))
        _write_list(reporter, [failure(cell) for cell in result.bad], "does not work", red=True)
    _write_list(reporter, [f"{check.id}: {check.accepted}" for check in result.accepted], "accepted")
    own = [f"{error.where}: {error.message}" for error in result.errors]
    _write_list(reporter, own, "the suite itself failed: this says nothing about the target")
    _write_list(reporter, result.left_behind, "left behind on the target")
    if result.checks:
        reporter.write_line(counted(result))
    _write_measured(reporter)
    if coverage.table:
        reporter.write_line(str(coverage))


def failure(cell: Cell) -> str:
    """Return in one line what is wrong with a cell, and its severity."""
    return f"{cell.severity}: {cell.id}: {in_a_line(cell.bad[0].message)}"


def counted(result: Result) -> str:
    """Return in one line how much was tested."""
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in result.counts.items() if count)
    bad = ", ".join(f"{count} {severity}" for severity, count in result.severities.items() if count)
    what = f"{len(result.checks)} checks over {len(result.cells)} cells (route x identity x capability)"
    return f"{result.target}: {result.outcome}. {what} in {result.seconds:.1f} s: {outcomes}" + (
        f"; failures by severity: {bad}" if bad else ""
    )


def in_a_line(message: str) -> str:
    """Return a message in one line: what was sent and came, or else its first line."""
    said = described(message)
    if not {"sent", "came"} <= said.keys():
        return message.partition("\n")[0]
    expected = f", expected {said['expected']}" if "expected" in said else ""
    return textwrap.shorten(f"{said['sent']}: {said['came']}{expected}", LINE_LENGTH, placeholder=" …")


def _write_matrix(reporter: pytest.TerminalReporter, matrix: Matrix) -> None:
    if not matrix.rows:
        return
    reporter.write_sep("-", "who can do what, and where")
    columns = list(zip(matrix.heading, *(row.texts for row in matrix.rows), strict=True))
    widths = [max(map(len, column)) for column in columns]
    widths[:2] = [min(width, NAMES_WIDTH) for width in widths[:2]]
    for part in parts_that_fit(widths):
        reporter.write_line(_line(*_pick(matrix.heading, widths, part)))
        for row in matrix.rows:
            for line in _lines(*_pick(row.texts, widths, part)):
                reporter.write_line(line, red=row.bad)


def parts_that_fit(widths: Sequence[int]) -> list[range]:
    """Return the columns of outcomes in parts that fit on a screen beside the first two columns, which are in each part."""
    room = SCREEN_WIDTH - sum(width + len(GAP) for width in widths[:2])
    parts, left = [range(2, 2)], room
    for column, width in enumerate(widths[2:], 2):
        if width > left and parts[-1]:
            parts, left = [*parts, range(column, column)], room
        parts[-1] = range(parts[-1].start, column + 1)
        left -= width + len(GAP)
    return parts


def _pick(texts: Sequence[str], widths: Sequence[int], part: range) -> tuple[list[str], list[int]]:
    columns = [0, 1, *part]
    return [texts[column] for column in columns], [widths[column] for column in columns]


def _lines(texts: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    routes, identities, *outcomes = texts
    names = [textwrap.wrap(routes, widths[0]), textwrap.wrap(identities, widths[1])]
    for number in range(max(map(len, names))):
        first = [lines[number] if number < len(lines) else "" for lines in names]
        yield _line([*first, *(outcomes if number == 0 else [])], widths)


def _line(texts: Iterable[str], widths: Iterable[int]) -> str:
    return GAP.join(text.ljust(width) for text, width in zip(texts, widths, strict=False)).rstrip()


def _write_list(reporter: pytest.TerminalReporter, lines: Iterable[str], heading: str, **markup: bool) -> None:
    found = list(lines)
    if found:
        reporter.write_sep("-", heading)
    for line in found[:SHOWN]:
        reporter.write_line(line, **markup)
    if len(found) > SHOWN:
        reporter.write_line(f"and {len(found) - SHOWN} more")


def _write_measured(reporter: pytest.TerminalReporter) -> None:
    if matrix := [(report, value) for report in _calls(reporter) for name, value in report.user_properties if name == CELLS]:
        count, seconds = sum(int(str(value)) for _, value in matrix), sum(report.duration for report, _ in matrix)
        reporter.write_line(f"{count} calls to every endpoint by every identity, {count / seconds:.0f} a second in each worker")
    for measured, what in ((REVOKED, "been revoked"), (EXPIRED, "expired")):
        if seen := [float(str(value)) for report in _calls(reporter) for name, value in report.user_properties if name == measured]:
            reporter.write_line(f"a key that had {what} was refused after at most {max(seen):.2f} s")


def _calls(reporter: pytest.TerminalReporter) -> Iterable[pytest.TestReport]:
    for outcome in ("passed", "failed", "xfailed", "xpassed"):
        for report in reporter.stats.get(outcome, ()):
            if isinstance(report, pytest.TestReport) and report.when == "call":
                yield report
