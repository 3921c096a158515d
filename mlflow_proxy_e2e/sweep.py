"""Removes from a target what killed runs have left there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mlflow_proxy_e2e.clients import signed_in
from mlflow_proxy_e2e.errors import SweepError
from mlflow_proxy_e2e.redaction import without
from mlflow_proxy_e2e.run import PREFIX, dead_runs, is_old, left_of, state_folder
from mlflow_proxy_e2e.scratch import FINDERS, NEEDS, remove
from mlflow_proxy_e2e.target import Target

SHOWN = 200  # characters of an error: it may contain an answer of any length


@dataclass
class Swept:
    """What was removed and what could not be, one line each."""

    removed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return all of it, as lines for people."""
        return [*(f"removed {what}" for what in self.removed), *(f"not removed: {why}" for why in self.failed)]

    def __str__(self) -> str:
        return "\n".join([*self.lines(), f"{len(self.removed)} removed, {len(self.failed)} not"])

    @property
    def exit_code(self) -> int:
        """Return the exit code of a command that does nothing else."""
        return SweepError.exit_code if self.failed else 0

    def take_away(self, target: Target, kinds: Iterable[str], beginning: str, is_ours: Callable[[str], bool] = bool) -> bool:
        """Remove everything whose name has this prefix, and return whether all of it is gone."""
        failures = len(self.failed)
        with signed_in(*target.truth) as client:
            for kind in (kind for kind in FINDERS if kind in set(kinds)):
                try:
                    self.removed += [f"{kind} {name}" for name in remove(client, kind, beginning, is_ours)]
                except Exception as error:  # whatever MLflow's client makes of an answer
                    why = without(target.secrets, f"{type(error).__name__}: {error}")
                    self.failed.append(f"{kind} {beginning}*: {why[:SHOWN]}")  # no sooner: half a key is a secret, too
        return failures == len(self.failed)


def left_by_dead_runs(target: Target) -> list[str]:
    """Return what this user's ended runs have left on the target, by their journals, as lines for people."""
    journals = dead_runs(state_folder(target))
    return [f"{kind} {journal.stem}-*" for journal in journals for kind in sorted(left_of(journal))]


def sweep_dead_runs(target: Target) -> Swept:
    """Remove what this user's ended runs have left on the target, by their journals, and then the journals."""
    swept = Swept()
    for journal in dead_runs(state_folder(target)):
        if swept.take_away(target, left_of(journal), f"{journal.stem}-"):
            journal.unlink()
    return swept


def sweep(target: Target) -> Swept:
    """Remove also everything named by a run that began more than a day ago, on any machine."""
    swept = sweep_dead_runs(target)
    kinds = [kind for kind in FINDERS if kind not in NEEDS or NEEDS[kind] in target.capabilities]
    swept.take_away(target, kinds, f"{PREFIX}-", is_old)
    return swept
