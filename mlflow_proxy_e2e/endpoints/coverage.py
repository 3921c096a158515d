"""Which of MLflow's endpoints a run has exercised: by a scenario, by the matrix of calls by every identity, or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from mlflow_proxy_e2e.endpoints.scopes import pattern

Call = tuple[str, str]  # a method and a path, or a path template

HEADING = "| endpoint | by a scenario | by every identity |\n|---|---|---|\n"


@dataclass
class Coverage:
    """The calls of a run, or of one of its processes.

    Args:
        table: MLflow's endpoints, if the table was requested.
        matrix: the endpoints that every identity has called.
        calls: the calls that got the expected answer, by path.
    """

    table: set[Call] = field(default_factory=set)
    matrix: set[Call] = field(default_factory=set)
    calls: set[Call] = field(default_factory=set)

    def to_data(self) -> dict[str, Any]:
        """Return it as plain data for another process."""
        return {name: sorted(map(list, calls)) for name, calls in asdict(self).items()}

    def add(self, data: Mapping[str, Iterable[Iterable[str]]]) -> None:
        """Add the data from ``to_data``."""
        for name, calls in data.items():
            getattr(self, name).update(map(tuple, calls))

    def __str__(self) -> str:
        found = Counter(self._kinds())
        return (
            f"{len(self.table)} endpoints: {found[True, True] + found[True, False]} exercised by a scenario, "
            f"{found[False, True]} by the matrix alone, {found[False, False]} untested"
        )

    def write(self, file: Path) -> None:
        """Write the table, in Markdown."""
        lines = zip(self._endpoints(), self._kinds(), strict=True)
        marks = {True: "yes", False: ""}
        file.write_text(HEADING + "".join(f"| `{' '.join(e)}` | {marks[s]} | {marks[m]} |\n" for e, (s, m) in lines))

    def _endpoints(self) -> list[Call]:
        return sorted(self.table, key=lambda endpoint: (endpoint[1], endpoint[0]))

    def _kinds(self) -> Iterator[tuple[bool, bool]]:
        """Return for each endpoint whether a scenario and whether the matrix has exercised it."""
        by_scenarios = set(self._by_scenarios())
        return ((endpoint in by_scenarios, endpoint in self.matrix) for endpoint in self._endpoints())

    def _by_scenarios(self) -> Iterator[Call]:
        # A server tries the paths with the fewest wildcards first.
        ordered = sorted(self.table, key=lambda endpoint: (endpoint[1].count("*"), -len(endpoint[1])))
        patterns = [(endpoint, pattern(endpoint[1])) for endpoint in ordered]
        for method, path in self.calls:
            decoded = unquote(path)
            yield from [e for e, matching in patterns if e[0] == method and matching.fullmatch(decoded)][:1]


COVERAGE = pytest.StashKey[Coverage]()  # where pytest's configuration holds that of its process
