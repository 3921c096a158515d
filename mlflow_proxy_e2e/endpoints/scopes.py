"""The scope that a call to MLflow's API requires: the table in ``scopes.txt``, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast, get_args
from urllib.parse import unquote

from mlflow_proxy_e2e.target import Scope

TABLE = Path(__file__).with_name("scopes.txt")
TWINS = ("/api", "/ajax-api")


class Rule(NamedTuple):
    """One line of the table: calls with ``method`` to a path that matches ``path`` require ``scope``."""

    scope: Scope
    method: str
    path: re.Pattern[str]
    template: str


class Scopes:
    """A table of rules.

    Args:
        table: the file. A path with ``{api}`` makes two rules, one for each twin.

    Raises ValueError for a line that is not a rule.
    """

    def __init__(self, table: Path = TABLE) -> None:
        lines = (line for line in table.read_text().splitlines() if line.strip() and not line.startswith("#"))
        self.rules = tuple(rule for line in lines for rule in _rules(line))

    def required(self, method: str, raw_path: str) -> Scope | None:
        """Return the scope that a call requires, or None if no rule covers it.

        Args:
            method: the call's HTTP method.
            raw_path: the path within MLflow as it will be forwarded, still percent-encoded.
        """
        # MLflow decodes once and then matches. Deciding on anything else would mean deciding on another call.
        path = unquote(raw_path)
        if _has_odd_segments(path):
            return None
        method = "GET" if method == "HEAD" else method
        return next((rule.scope for rule in self.rules if rule.method == method and rule.path.fullmatch(path)), None)


def _rules(line: str) -> Iterator[Rule]:
    columns = line.split()
    if len(columns) != 3 or columns[0] not in get_args(Scope):
        raise ValueError(f"not a scope, a method and a path: {line!r}")
    scope, method, template = columns
    for twin in TWINS if "{api}" in template else ("",):
        path = template.replace("/{api}", twin)
        yield Rule(cast(Scope, scope), method, pattern(path), path)


def _has_odd_segments(path: str) -> bool:
    """Tell whether the next server might see a different path than the one that is written."""
    return any(segment in (".", "..") for segment in path.split("/")) or "//" in path


def pattern(template: str) -> re.Pattern[str]:
    """Return the pattern that matches the decoded paths of a template."""
    parts = re.split(r"(\*\*|\*)", template)
    kinds = {"**": ".+", "*": "[^/]+"}
    return re.compile("".join(kinds.get(part) or re.escape(part) for part in parts), re.DOTALL)
