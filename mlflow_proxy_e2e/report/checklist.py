"""A verdict for somebody at a terminal: a line for each promise, what is wrong under it, and the evidence at the end."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from mlflow_proxy_e2e.diagnosis.verdict import Finding, Promise, PromiseOutcome, Verdict

INDENT = "      "
SHOWN_GAPS = 2  # reasons why something was not judged


class Mark(NamedTuple):
    """How an outcome is marked: on a terminal, elsewhere, and in which style."""

    sign: str
    plain: str
    style: str


BROKEN, WARNED = Mark("✗", "FAIL", "bold red"), Mark("‼", "warn", "yellow")
MARKS: dict[PromiseOutcome, Mark] = {
    "kept": Mark("✓", "ok", "green"),
    "kept in part": Mark("~", "part", "green"),
    "broken": BROKEN,
    "accepted": WARNED,
    "not judged": Mark("-", "-", "dim"),
}


def console(*, is_quiet: bool = False) -> Console:
    """Return where to write: with colours on a terminal, unless NO_COLOR is set."""
    return Console(highlight=False, quiet=is_quiet)


def write(console: Console, verdict: Verdict, fail_on: Collection[str], *, is_short: bool = False) -> None:
    """Write the promises by stage, and then the findings with their evidence.

    Args:
        console: where to. On a terminal, lines have signs and colours.
        verdict: what to write.
        fail_on: the severities that count as wrong. Others are warnings.
        is_short: whether to leave out the promises, and write only what is wrong.
    """
    if not is_short:
        for stage, promises in groupby(verdict.promises, lambda promise: promise.stage):
            console.print(f"\n[bold]{stage}[/bold]")
            for promise in promises:
                _write_promise(console, promise, verdict, fail_on)
        for finding in verdict.findings:
            if not finding.causes:
                _write_unnamed(console, finding, fail_on)
        console.print(f"\n{_counted(verdict)}")
        console.print()
    console.print(Text(str(verdict)), soft_wrap=True)
    if names := sorted({cause for finding in verdict.findings for cause in finding.causes}):
        console.print(Text(f"\nmlflow-proxy-e2e explain {names[0] if len(names) == 1 else 'ID'} says more about a cause."))


def _write_promise(console: Console, promise: Promise, verdict: Verdict, fail_on: Collection[str]) -> None:
    mark = WARNED if promise.severity and promise.severity not in fail_on else MARKS[promise.outcome]
    _write_line(console, mark, promise.text, _gaps(promise))
    for finding in verdict.findings:
        if set(finding.causes) & set(promise.found):
            for line in _about(finding):
                console.print(Text(INDENT + line), soft_wrap=True)


def _write_unnamed(console: Console, finding: Finding, fail_on: Collection[str]) -> None:
    """Write what is wrong without breaking any of the promises: no known cause fits."""
    console.print("\n[bold]unknown cause[/bold]")
    mark = BROKEN if finding.severity in fail_on else WARNED
    _write_line(console, mark, f"{finding.severity}: {finding.what[0]} ({' or '.join(finding.hops)})")


def _write_line(console: Console, mark: Mark, text: str, remark: str = "") -> None:
    shown = f"  {mark.sign} " if console.is_terminal else f"  {mark.plain:<5}"
    console.print(Text(shown, mark.style), Text(text), Text(remark, "dim"), sep="", soft_wrap=True)


def _about(finding: Finding) -> Iterator[str]:
    yield f"{finding.severity}: {finding.name} ({' or '.join(finding.hops)})"
    if finding.accepted:
        yield f"accepted: {finding.accepted}"
    elif len(finding.causes) == 1:
        yield finding.what[0]
        yield f"fix: {finding.remedy[0]}"


def _gaps(promise: Promise) -> str:
    """Return what was not judged, and why."""
    if promise.outcome in ("broken", "accepted") or not promise.gaps:
        return ""
    reasons = "; ".join(_shortened(promise.gaps))
    if promise.outcome == "not judged":
        return f"  ({reasons})"
    return f"  ({promise.of - promise.ruled_out} of {promise.of} not judged: {reasons})"


def _shortened(gaps: Sequence[str]) -> list[str]:
    return [*gaps[:SHOWN_GAPS], *(["…"] if len(gaps) > SHOWN_GAPS else [])]


def _counted(verdict: Verdict) -> str:
    """Return in one line how many promises are kept."""
    outcomes = [promise.outcome for promise in verdict.promises]
    counts = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in MARKS if outcome in outcomes)
    return f"{len(outcomes)} promises: {counts}."
