"""Who can do what, and where: keys x routes x capabilities, with equal results in one row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlflow_proxy_e2e.report.result import ANY, Outcome, Result

MARKS: Mapping[Outcome | None, str] = {
    "passed": "ok",
    "failed": "FAILED",
    "error": "ERROR",
    "accepted": "accepted",
    "skipped": "-",
    None: "",
}
COLUMNS = 12  # the most that are readable side by side

Outcomes = tuple[Outcome | None, ...]  # one for each capability, in the order of the matrix


@dataclass(frozen=True)
class Row:
    """Routes and identities with the same outcomes."""

    routes: tuple[str, ...]
    identities: tuple[str, ...]
    outcomes: Outcomes

    @property
    def bad(self) -> bool:
        """Tell whether something is wrong in the row."""
        return bool({"failed", "error"} & set(self.outcomes))

    @property
    def texts(self) -> tuple[str, ...]:
        """Return the row's texts for people."""
        return (", ".join(self.routes), ", ".join(self.identities), *(MARKS[outcome] for outcome in self.outcomes))


@dataclass(frozen=True)
class Matrix:
    """The outcomes of some capabilities.

    Args:
        capabilities: all of the result's, or only those with failures if all are too many to read.
    """

    capabilities: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def heading(self) -> tuple[str, ...]:
        """Return the headings of the columns."""
        return ("route", "identity", *self.capabilities)

    @classmethod
    def of(cls, result: Result) -> Matrix:
        """Return the matrix of a result. It has no rows if there is nothing to show."""
        capabilities = sorted({cell.capability for cell in result.cells})
        if len(capabilities) > COLUMNS:
            capabilities = sorted({cell.capability for cell in result.bad})
        found: dict[tuple[str, str], dict[str, Outcome]] = {}
        for cell in result.cells:
            if cell.capability in capabilities:
                found.setdefault((cell.route or ANY, cell.identity or ANY), {})[cell.capability] = cell.outcome
        # First merge the identities of a route that have equal results, then the routes on which the same identities do.
        of_route: dict[tuple[str, Outcomes], list[str]] = {}
        for (route, identity), by_capability in found.items():
            outcomes = tuple(by_capability.get(capability) for capability in capabilities)
            of_route.setdefault((route, outcomes), []).append(identity)
        alike: dict[tuple[tuple[str, ...], Outcomes], list[str]] = {}
        for (route, outcomes), identities in of_route.items():
            alike.setdefault((tuple(identities), outcomes), []).append(route)
        return cls(tuple(capabilities), tuple(Row(tuple(routes), who, outcomes) for (who, outcomes), routes in alike.items()))
