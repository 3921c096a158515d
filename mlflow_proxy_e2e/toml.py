"""TOML that people write: entries are taken one by one, and all errors in a file are reported together."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from mlflow_proxy_e2e.errors import SuiteError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Kind = TypeVar("Kind")
WORDS: Mapping[type, str] = {bool: "true or false", int: "an integer", str: "a string in quotes", dict: "a table", list: "a list"}


class Table:
    """A table of a TOML file.

    Each entry is taken by name. If it is wrong, that is noted and a harmless value returned instead. ``finish``
    raises all notes. Messages contain no values from the file, as they may be keys.

    Args:
        data: the table's entries.
        place: its name in the file, empty for the file itself.
        wrong: the errors so far, shared by all tables of a file.
    """

    def __init__(self, data: Mapping[str, Any], place: str = "", wrong: list[str] | None = None) -> None:
        self._data, self._place = data, place
        self._wrong = [] if wrong is None else wrong
        self._known: set[str] = set()

    @classmethod
    def read(cls, file: Path, error: type[SuiteError], purpose: str) -> Table:
        """Read ``file``. Raises ``error`` if it cannot be read or is not TOML; ``purpose`` says what the file should be."""
        try:
            return cls(tomllib.loads(file.read_text("utf-8")))
        except OSError as reason:
            raise error(f"{file}: {reason.strerror}. {purpose}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as reason:
            raise error(f"{file} is not TOML: {reason}.") from None

    def __contains__(self, name: str) -> bool:
        self._known.add(name)
        return name in self._data

    def take(self, name: str, kind: type[Kind], default: Kind | None = None) -> Kind:
        """Return an entry of that kind, or ``default``. Without a default, the entry must exist."""
        if name not in self and default is not None:
            return default
        found = self._data.get(name)
        if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
            self.note(name, f"should be {WORDS[kind]}" if name in self._data else f"is missing: it should be {WORDS[kind]}")
            return kind() if default is None else default
        return found

    def optional(self, name: str) -> str | None:
        """Return a string, or None if the entry is missing."""
        return self.take(name, str) if name in self else None

    def words(self, name: str, known: Collection[Kind], default: Collection[Kind] | None = None) -> tuple[Kind, ...]:
        """Return a list of known words without repetition."""
        said = self.take(name, list, None if default is None else list(default))
        if unknown := [word for word in said if word not in known]:
            places = ", ".join(str(said.index(word) + 1) for word in unknown)
            self.note(name, f"has unknown values, at position {places}: valid are {', '.join(map(str, known))}")
        if len(set(map(str, said))) != len(said):
            self.note(name, "has repeated values")
        return tuple(cast(Kind, word) for word in dict.fromkeys(map(str, said)) if word in known)

    def word(self, name: str, known: Collection[Kind], default: Kind) -> Kind:
        """Return one of the known words."""
        said = self.take(name, str, str(default))
        if said not in known:
            self.note(name, f"should be one of {', '.join(map(str, known))}")
            return default
        return cast(Kind, said)

    def table(self, name: str) -> Table:
        """Return a table within this one, empty if it is missing."""
        return Table(self.take(name, dict, {}), f"{self._place}{name}.", self._wrong)

    def tables(self, name: str) -> Mapping[str, Table]:
        """Return the tables within a table, by name."""
        outer = self.table(name)
        return {inner: outer.table(inner) for inner in outer.names}

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of all entries, in the order of the file."""
        return tuple(self._data)

    def note(self, name: str, what: str) -> None:
        """Note that something is wrong with an entry, or with the table itself if ``name`` is empty."""
        self._wrong.append(f"{(self._place + name).rstrip('.') or 'the file'} {what}")

    def close(self) -> None:
        """Note all entries that were not taken."""
        for name in self._data.keys() - self._known:
            self.note(name, f"is unknown: valid are {', '.join(sorted(self._known))}")

    def finish(self, source: Path | str, error: type[SuiteError]) -> None:
        """Raise ``error`` with everything that is wrong, if anything is. ``source`` is the file, or another origin of the data."""
        if self._wrong:
            raise error("\n".join([f"{source}:", *(f"  {line}." for line in sorted(set(self._wrong)))]))
