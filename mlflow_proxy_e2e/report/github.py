"""The result for GitHub Actions: a job summary, and annotations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mlflow_proxy_e2e.report.matrix import Matrix
from mlflow_proxy_e2e.report.result import Result
from mlflow_proxy_e2e.report.summary import SHOWN, counted, failure, in_a_line

ANNOTATIONS = 10  # of each kind that GitHub shows for one step


def step_summary(result: Result) -> str:
    """Return the result in Markdown."""
    return "\n".join(_sections(result)) + "\n"


def commands(result: Result) -> Iterator[str]:
    """Return workflow commands that annotate what is wrong: findings first, and no more than GitHub shows."""
    messages = [
        *((None, "the suite itself failed", f"{error.where}: {error.message}") for error in result.errors),
        *((finding.severity, " or ".join(finding.hops), str(finding)) for finding in result.wrong),
        *((cell.severity, cell.id, cell.bad[0].message) for cell in result.bad),
    ]
    for severity, what, message in messages[:ANNOTATIONS]:
        level = "error" if severity is None or severity in result.fail_on else "warning"
        title = f"{result.target}: {what}" + (f" ({severity})" if severity else "")
        yield f"::{level} title={_property(title)}::{_data(message)}"


def _sections(result: Result) -> Iterator[str]:
    yield f"## {_text(result.target)}: {result.outcome}\n"
    if result.verdict:
        yield _verbatim(str(result.verdict))
    matrix = Matrix.of(result)
    if matrix.rows:
        yield _row(matrix.heading)
        yield _row("---" for _ in matrix.heading)
        yield from (_row(row.texts) for row in matrix.rows)
        yield ""
    yield from _list("Does not work", [failure(cell) for cell in result.bad])
    yield from _list("Accepted", [f"{check.id}: {check.accepted}" for check in result.accepted])
    yield from _list("The suite itself failed", [f"{error.where}: {in_a_line(error.message)}" for error in result.errors])
    yield from _list("Left behind on the target", result.left_behind)
    yield _text(counted(result))


def _list(heading: str, lines: Iterable[str]) -> Iterator[str]:
    found = list(lines)
    if found:
        yield f"### {heading}\n"
        yield from (f"- {_text(line)}" for line in found[:SHOWN])
        if len(found) > SHOWN:
            yield f"- and {len(found) - SHOWN} more"
        yield ""


def _row(texts: Iterable[str]) -> str:
    return f"| {' | '.join(map(_text, texts))} |"


def _verbatim(text: str) -> str:
    # Indented rather than fenced, as the text could close a fence.
    return "\n".join(f"    {line}" for line in text.splitlines()) + "\n"


def _text(text: str) -> str:
    for special in "\\`*_[]<>|#":
        text = text.replace(special, f"\\{special}")
    return text.replace("\n", " ")


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
