"""TOML that people write: entries are taken one by one, and everything that is wrong with a file is told at once."""

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
WORDS: Mapping[type, str] = {bool: "true or false", int: "a whole number", str: "a text in quotes", dict: "a table", list: "a list"}


class Table:
    """A table of a TOML file.

    Each entry is taken by its name; what is not as it should be is noted, and a harmless value taken in its place. ``finish``
    raises what was noted. No message has a value of the file in it: it may be a key.

    Args:
        data: what the table says.
        place: its name in the file, empty for the file itself.
        wrong: where what is wrong is noted, for all tables of a file.
    """

    def __init__(self, data: Mapping[str, Any], place: str = "", wrong: list[str] | None = None) -> None:
        self._data, self._place = data, place
        self._wrong = [] if wrong is None else wrong
        self._known: set[str] = set()

    @classmethod
    def read(cls, file: Path, error: type[SuiteError], purpose: str) -> Table:
        """Return what ``file`` says. Raises ``error`` if it cannot be read or is not TOML: ``purpose`` says what is wanted."""
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
        """Return an entry of that kind, or ``default``. Without a default it must be there."""
        if name not in self and default is not None:
            return default
        found = self._data.get(name)
        if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
            self.note(name, f"should be {WORDS[kind]}" if name in self._data else f"is missing: it should be {WORDS[kind]}")
            return kind() if default is None else default
        return found

    def optional(self, name: str) -> str | None:
        """Return a text, or None where there is none."""
        return self.take(name, str) if name in self else None

    def words(self, name: str, known: Collection[Kind], default: Collection[Kind] | None = None) -> tuple[Kind, ...]:
        """Return a list of some of the words that are known, each once."""
        said = self.take(name, list, None if default is None else list(default))
        if unknown := [word for word in said if word not in known]:
            places = ", ".join(str(said.index(word) + 1) for word in unknown)
            self.note(name, f"has what is not known, at place {places}: there are {', '.join(map(str, known))}")
        if len(set(map(str, said))) != len(said):
            self.note(name, "has something twice")
        return tuple(cast(Kind, word) for word in dict.fromkeys(map(str, said)) if word in known)

    def word(self, name: str, known: Collection[Kind], default: Kind) -> Kind:
        """Return one of the words that are known."""
        said = self.take(name, str, str(default))
        if said not in known:
            self.note(name, f"should be one of {', '.join(map(str, known))}")
            return default
        return cast(Kind, said)

    def table(self, name: str) -> Table:
        """Return a table within this one: empty, where there is none."""
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
        """Take note that something is wrong with an entry, or with the table itself where ``name`` is empty."""
        self._wrong.append(f"{(self._place + name).rstrip('.') or 'the file'} {what}")

    def close(self) -> None:
        """Take note of the entries that nobody has asked for."""
        for name in self._data.keys() - self._known:
            self.note(name, f"is not known: there are {', '.join(sorted(self._known))}")

    def finish(self, source: Path | str, error: type[SuiteError]) -> None:
        """Raise ``error`` with everything that is wrong, if anything is. ``source`` is the file, or what else has said it."""
        if self._wrong:
            raise error("\n".join([f"{source}:", *(f"  {line}." for line in sorted(set(self._wrong)))]))
