"""Results of earlier runs against the same target, and what has changed since."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from mlflow_proxy_e2e.report.result import FORMAT, Result, reachable

RUNS = 10  # the last runs, this one included: a check that has changed both ways in them is flaky
KEPT = 100  # results of a target; older ones are removed
SHOWN = 20  # checks of each kind, by name
SUFFIX = ".result.json"


def file(folder: Path, result: Result) -> Path:
    """Return the file in which to keep a result, and remove results that are too old. Raises OSError."""
    for old in _files(folder, result.target)[: -(KEPT - 1)]:
        old.unlink(missing_ok=True)
    return folder / f"{_name(result.target)}.{result.started:%Y%m%dT%H%M%S%fZ}{SUFFIX}"


def outcomes(folder: Path, result: Result) -> Sequence[tuple[str, str]]:
    """Return when the last earlier runs started, and their outcomes, oldest first. Raises OSError."""
    return [(data["started"][:16].replace("T", " "), data["outcome"]) for data in _kept(folder, result.target)][-RUNS:]


def changes(folder: Path, result: Result) -> Iterator[str]:
    """Compare a result with the earlier ones, and yield a line for each change. Raises OSError."""
    before = [_outcomes(data) for data in _kept(folder, result.target)]
    found: dict[str, list[str]] = {"newly broken": [], "fixed": [], f"flaky within the last {RUNS} runs": []}
    broken, fixed, flaky = found.values()
    for check, works in _outcomes(result.to_data()).items():
        past = [outcomes[check] for outcomes in before if check in outcomes][-(RUNS - 1) :]
        if _changes([*past, works]) == {True, False}:
            flaky.append(check)
        elif past and past[-1] != works:
            (fixed if works else broken).append(check)
    for kind, checks in found.items():
        yield from (f"{kind}: {check}" for check in checks[:SHOWN])
        if len(checks) > SHOWN:
            yield f"{kind}: and {len(checks) - SHOWN} more"


def _changes(outcomes: Sequence[bool]) -> set[bool]:
    """Return the outcomes that differ from the previous one."""
    return {later for earlier, later in pairwise(outcomes) if earlier != later}


def _outcomes(data: dict[str, Any]) -> dict[str, bool]:
    """Return which checks have passed. Reachability is not counted: it shows in the checks that use the route."""
    reached = {reachable(route): True for route, is_up in data["routes"].items() if is_up}
    return reached | {check["id"]: check["outcome"] == "passed" for check in data["checks"] if check["outcome"] != "skipped"}


def _kept(folder: Path, target: str) -> Iterator[dict[str, Any]]:
    for path in _files(folder, target):
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            continue  # the file was changed
        if isinstance(data, dict) and data.get("format") == FORMAT:
            yield data


def _files(folder: Path, target: str) -> list[Path]:
    """Return the results kept for a target, oldest first."""
    found = folder.glob(f"*{SUFFIX}")
    return sorted(path for path in found if path.name.removesuffix(SUFFIX).rpartition(".")[0] == _name(target))


def _name(target: str) -> str:
    return re.sub(r"[^\w.-]", "_", target)
