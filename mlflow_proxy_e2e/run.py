"""A run of the suite: how the names that it creates are recognised, and the journal that lists them before they are created.

A journal is a file of JSON lines. Every process of the run appends to it and holds a shared lock on it for as long as it lives:
a journal that nobody has locked belongs to a dead run.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from mlflow_proxy_e2e.errors import StateFolderUnusableError
from mlflow_proxy_e2e.target import Target

PREFIX = "e2e"  # the prefix of all names that the suite creates
STAMP = "%Y%m%d-%H%M%S"  # the start of the run, in UTC
MARK = re.compile(rf"{PREFIX}-(\d{{8}}-\d{{6}})-[0-9a-f]{{8}}")  # of a run
NAME = re.compile(rf"{MARK.pattern}-[0-9a-f]{{6}}-\d")  # of an object that a run creates
OLD = timedelta(days=1)  # no run takes longer: older names are leftovers
SUFFIX = ".jsonl"
APPLICATION = "mlflow-proxy-e2e"


def state_folder(target: Target) -> Path:
    """Return this user's folder with the journals of runs against a target. It may not exist yet."""
    home = Path(os.environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser())
    places = " ".join(sorted(route.url for route in target.routes))
    return home / APPLICATION / f"{target.name}-{hashlib.sha256(places.encode()).hexdigest()[:8]}"


@dataclass
class Run:
    """A run, as each of its processes knows it.

    Args:
        mark: the prefix of all names that it gives, followed by ``-``.
        journal: its file, or None if everything it creates disappears with the stack.
    """

    mark: str
    journal: str | None = None
    _file: int = field(default=-1, repr=False)

    @classmethod
    def begin(cls, folder: Path | None = None) -> Run:
        """Begin a run, whose journal is in ``folder``. Raises StateFolderUnusableError."""
        mark = f"{PREFIX}-{datetime.now(timezone.utc).strftime(STAMP)}-{secrets.token_hex(4)}"
        if folder is None:
            return cls(mark)
        try:
            folder.mkdir(0o700, parents=True, exist_ok=True)
            return cls(mark, str(folder / f"{mark}{SUFFIX}")).joined()
        except OSError as error:
            raise StateFolderUnusableError(folder, error) from None

    def joined(self) -> Run:
        """Return the run of another process, joined by this one."""
        if self.journal:
            self._file = os.open(self.journal, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_SH)
        return self

    def to_data(self) -> dict[str, Any]:
        """Return the run as plain data for another process, which passes it to ``joined``."""
        return {"mark": self.mark, "journal": self.journal}

    def new_names(self) -> str:
        """Return a unique prefix for names, without the ``-`` and the number that end them."""
        return f"{self.mark}-{secrets.token_hex(3)}"

    def note_creation(self, kind: str, name: str) -> None:
        """Record that something is about to be created. Returns when that is on disk."""
        self._note({"kind": kind, "name": name})

    def note_removal(self, beginning: str) -> None:
        """Record that nothing with that prefix is left."""
        self._note({"removed": beginning})

    def left(self) -> set[str]:
        """Return the kinds and prefixes of what may still exist."""
        return left_of(Path(self.journal)) if self.journal else set()

    def end(self) -> None:
        """Delete the journal if nothing in it is left."""
        if self.journal:
            os.close(self._file)
            if not self.left():
                Path(self.journal).unlink()

    def _note(self, entry: dict[str, str]) -> None:
        if self.journal:
            os.write(self._file, f"{json.dumps(entry)}\n".encode())  # in one write: other processes append, too
            os.fsync(self._file)


def left_of(journal: Path) -> set[str]:
    """Return the kinds and prefixes of what may still exist, by a run's journal: only names that this run can have given."""
    entries = [_entry(line) for line in journal.read_text(errors="replace").splitlines()]
    removed = tuple(f"{entry['removed']}-" for entry in entries if "removed" in entry)
    ours = [entry for entry in entries if entry.get("name", "").startswith(f"{journal.stem}-")]
    return {entry["kind"] for entry in ours if "kind" in entry and not entry["name"].startswith(removed)}


def _entry(line: str) -> dict[str, str]:
    try:
        said = json.loads(line)
    except ValueError:
        said = None  # the machine went down while it was written, so that was not created
    return {name: str(value) for name, value in said.items()} if isinstance(said, dict) else {}


def dead_runs(folder: Path) -> Iterator[Path]:
    """Yield the journals of runs that are over, each locked while the caller works on it. Other files are ignored."""
    for journal in sorted(file for file in folder.glob(f"*{SUFFIX}") if MARK.fullmatch(file.stem)):
        try:
            file = os.open(journal, os.O_RDWR)
        except OSError:
            continue  # another process has just removed it
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue  # the run is still going on
        else:
            yield journal
        finally:
            os.close(file)


def is_old(name: str) -> bool:
    """Tell whether a name was given by a run that must be over by now."""
    if not (found := NAME.match(name)):
        return False
    try:
        began = datetime.strptime(found[1], STAMP).replace(tzinfo=timezone.utc)
    except ValueError:
        return False
    return datetime.now(timezone.utc) - began > OLD
