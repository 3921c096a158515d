"""A run of the suite: by what names that it creates are known, and the journal of them, which is on disk before they are created.

A journal is a file of JSON lines. Every process of the run appends to it and holds a shared lock of it for as long as it lives, so
that a journal that nobody holds is a dead run's.
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

PREFIX = "e2e"  # begins the name of everything that the suite creates
STAMP = "%Y%m%d-%H%M%S"  # when the run began, in UTC
MARK = re.compile(rf"{PREFIX}-(\d{{8}}-\d{{6}})-[0-9a-f]{{8}}")  # of a run
NAME = re.compile(rf"{MARK.pattern}-[0-9a-f]{{6}}-\d")  # of what it creates
OLD = timedelta(days=1)  # no run takes longer: what is named by an earlier one is left over
SUFFIX = ".jsonl"
APPLICATION = "mlflow-proxy-e2e"


def state_folder(target: Target) -> Path:
    """Return the folder of this user with the journals of runs against a target. It need not be there."""
    home = Path(os.environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser())
    places = " ".join(sorted(route.url for route in target.routes))
    return home / APPLICATION / f"{target.name}-{hashlib.sha256(places.encode()).hexdigest()[:8]}"


@dataclass
class Run:
    """A run, as each of its processes knows it.

    Args:
        mark: begins all names that it gives, followed by ``-``.
        journal: its file, or None where what it creates goes with the stack.
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
        """Return the run, of which this process is now a part."""
        if self.journal:
            self._file = os.open(self.journal, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_SH)
        return self

    def to_data(self) -> dict[str, Any]:
        """Return the run as plain data for another process, which calls ``joined`` of what it makes of it."""
        return {"mark": self.mark, "journal": self.journal}

    def new_names(self) -> str:
        """Return the beginning of names that nobody else gives, without the ``-`` and the number that end them."""
        return f"{self.mark}-{secrets.token_hex(3)}"

    def note_creation(self, kind: str, name: str) -> None:
        """Take note that something is about to be created. Returns when that is on disk."""
        self._note({"kind": kind, "name": name})

    def note_removal(self, beginning: str) -> None:
        """Take note that nothing is left whose name begins so."""
        self._note({"removed": beginning})

    def left(self) -> set[str]:
        """Return the kinds of what may still be there."""
        return left_of(Path(self.journal)) if self.journal else set()

    def end(self) -> None:
        """Forget the journal, if nothing is left that it knows of."""
        if self.journal:
            os.close(self._file)
            if not self.left():
                Path(self.journal).unlink()

    def _note(self, entry: dict[str, str]) -> None:
        if self.journal:
            os.write(self._file, f"{json.dumps(entry)}\n".encode())  # at once and whole: other processes append to it, too
            os.fsync(self._file)


def left_of(journal: Path) -> set[str]:
    """Return the kinds of what may still be there of the run with that journal: of names that it can have given, and no others."""
    entries = [_entry(line) for line in journal.read_text(errors="replace").splitlines()]
    removed = tuple(f"{entry['removed']}-" for entry in entries if "removed" in entry)
    ours = [entry for entry in entries if entry.get("name", "").startswith(f"{journal.stem}-")]
    return {entry["kind"] for entry in ours if "kind" in entry and not entry["name"].startswith(removed)}


def _entry(line: str) -> dict[str, str]:
    try:
        said = json.loads(line)
    except ValueError:
        said = None  # the machine went down while it was written: what it announces has not been created
    return {name: str(value) for name, value in said.items()} if isinstance(said, dict) else {}


def dead_runs(folder: Path) -> Iterator[Path]:
    """Return the journals of runs that are over, each locked while it is the caller's turn. No other file is one."""
    for journal in sorted(file for file in folder.glob(f"*{SUFFIX}") if MARK.fullmatch(file.stem)):
        try:
            file = os.open(journal, os.O_RDWR)
        except OSError:
            continue  # somebody has just removed it
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue  # the run goes on
        else:
            yield journal
        finally:
            os.close(file)


def is_old(name: str) -> bool:
    """Tell whether a name is one that a run gave which must be over by now."""
    if not (found := NAME.match(name)):
        return False
    try:
        began = datetime.strptime(found[1], STAMP).replace(tzinfo=timezone.utc)
    except ValueError:
        return False
    return datetime.now(timezone.utc) - began > OLD
