"""Removes from a target what runs have left there that were killed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mlflow_proxy_e2e.clients import signed_in
from mlflow_proxy_e2e.errors import SweepError
from mlflow_proxy_e2e.redaction import without
from mlflow_proxy_e2e.run import PREFIX, dead_runs, is_old, left_of, state_folder
from mlflow_proxy_e2e.scratch import FINDERS, NEEDS, remove
from mlflow_proxy_e2e.target import Target

SHOWN = 200  # characters of an error: it may have an answer in it, of any length


@dataclass
class Swept:
    """What was removed, and what could not be, each in a line for people."""

    removed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return all of it, in lines for people."""
        return [*(f"removed {what}" for what in self.removed), *(f"not removed: {why}" for why in self.failed)]

    def __str__(self) -> str:
        return "\n".join([*self.lines(), f"{len(self.removed)} removed, {len(self.failed)} not"])

    @property
    def exit_code(self) -> int:
        """Return the exit code of whoever did nothing else."""
        return SweepError.exit_code if self.failed else 0

    def take_away(self, target: Target, kinds: Iterable[str], beginning: str, is_ours: Callable[[str], bool] = bool) -> bool:
        """Remove what has a name that begins so, and return whether all of that is gone."""
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
    """Return what journals of this user's runs against the target have, of runs that are over, in lines for people."""
    journals = dead_runs(state_folder(target))
    return [f"{kind} {journal.stem}-*" for journal in journals for kind in sorted(left_of(journal))]


def sweep_dead_runs(target: Target) -> Swept:
    """Remove what the journals of this user's runs against the target have, of runs that are over, and then the journals."""
    swept = Swept()
    for journal in dead_runs(state_folder(target)):
        if swept.take_away(target, left_of(journal), f"{journal.stem}-"):
            journal.unlink()
    return swept


def sweep(target: Target) -> Swept:
    """Remove, besides that, what has the name that a run gave more than a day ago, on whatever machine."""
    swept = sweep_dead_runs(target)
    kinds = [kind for kind in FINDERS if kind not in NEEDS or NEEDS[kind] in target.capabilities]
    swept.take_away(target, kinds, f"{PREFIX}-", is_old)
    return swept
