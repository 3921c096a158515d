"""The command ``check``: asks a target what is wrong with it, once or until nothing is."""

from __future__ import annotations

import difflib
import re
import sys
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.causes.catalogue import CATALOGUE
from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.diagnosis import conclude, observed
from mlflow_proxy_e2e.errors import BadOptionError
from mlflow_proxy_e2e.facts.facts import Facts
from mlflow_proxy_e2e.facts.recording import Recording
from mlflow_proxy_e2e.target import Acceptance, Target
from mlflow_proxy_e2e.traffic import TRAFFIC

DURATION = re.compile(r"(?P<number>\d{1,5})(?P<unit>[smh]?)")
SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}
FindTarget = Callable[[], Target]


def check(find: FindTarget, console: Console, skipped: Iterable[str], *, may_create: bool) -> Facts:
    """Return everything that the signs of all causes observe of a target. What was created for it is removed.

    Args:
        find: returns the target.
        console: where the progress is shown, if it is a terminal.
        skipped: ids of causes to accept.
        may_create: whether an experiment may be created.

    Raises SuiteError.
    """
    with Progress(TextColumn("asking"), BarColumn(), console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=1.0)
        target = accepting(find(), skipped)
        console.print(_introduced(target), markup=False, soft_wrap=True)
        TRAFFIC.limit(target, 1)
        try:
            facts = observed(
                target,
                may_create=may_create,
                seconds=timeouts.CHECK,
                progress=lambda part: progress.update(task, completed=part),
            )
        finally:
            if may_create:
                _clean_up(target)
    if TRAFFIC.is_exhausted:
        raise TRAFFIC.exhaustion
    return facts


def _introduced(target: Target) -> str:
    """Return in a line what is asked, as whom, and by which carriers."""
    routes = ", ".join(f"{route} {route.url}" for route in target.routes)
    version = f"MLflow {target.mlflow_version}; " if target.mlflow_version else ""
    open_paths = f"; open without a key: {', '.join(target.contract.open_paths)}" if target.contract.open_paths else ""
    return f"{target.name}: {routes}; {version}asked as {target.insider}, with keys as {' and '.join(target.carriers)}{open_paths}"


def _clean_up(target: Target) -> None:
    """Remove what is still in the journals of ended runs."""
    from mlflow_proxy_e2e.deployed import DeployedStack  # it imports MLflow, which takes seconds

    for what in DeployedStack(target).clean_up():
        print(f"left behind on the target: {what}", file=sys.stderr)  # noqa: T201


def check_until_well(again: Callable[[], Facts], console: Console, fail_on: Collection[str], seconds: float) -> Facts:
    """Check a target again until nothing is wrong, or the time is up, and return what was observed last.

    Args:
        again: checks it.
        console: where to say what is still wrong.
        fail_on: the severities that count as wrong.
        seconds: for all checks together. None is begun after that.
    """
    end = time.monotonic() + seconds
    while (wrong := conclude(facts := again()).fails(fail_on)) and (left := end - time.monotonic()) > 0:
        console.print(f"not yet: {wrong[0].name}; {left:.0f} s left", soft_wrap=True)
        TRAFFIC.hope_again()
        time.sleep(min(left, timeouts.BETWEEN_CHECKS))
    return facts


def recorded(file: Path, skipped: Iterable[str]) -> Facts:
    """Return the facts in a file, without a network. Raises BadFileError."""
    recording = Recording.read(file)
    recording.target = accepting(recording.target, skipped)
    return Facts.recorded(recording)


def accepting(target: Target, skipped: Iterable[str]) -> Target:
    """Return the target with these causes accepted."""
    return replace(target, accepted=(*target.accepted, *(Acceptance(cause, "skipped with --skip") for cause in skipped)))


def known(causes: Iterable[str]) -> tuple[Cause, ...]:
    """Return the causes with these ids. Raises BadOptionError."""
    for cause in (causes := tuple(causes)):
        if cause not in CATALOGUE:
            similar = difflib.get_close_matches(cause, CATALOGUE, n=3)
            raise BadOptionError(f"There is no cause {cause!r}." + (f" Similar are: {', '.join(similar)}." if similar else ""))
    return tuple(CATALOGUE[CauseId(cause)] for cause in causes)


def duration(option: str, given: str) -> float:
    """Return the number of seconds in a text such as ``90``, ``90s`` or ``5m``. Raises BadOptionError."""
    if not (said := DURATION.fullmatch(given)):
        raise BadOptionError(f"{option} {given}: expected a duration such as 90s or 5m.")
    return float(int(said["number"]) * SECONDS[said["unit"]])
