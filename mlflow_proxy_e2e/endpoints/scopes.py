"""The scope that a call to MLflow's API requires: by the table in ``scopes.txt``, or by a deployment's own policy."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, cast, get_args
from urllib.parse import unquote

from mlflow_proxy_e2e.target import Access, Identity, Policy, Scope

TABLE = Path(__file__).with_name("scopes.txt")
TWINS = ("/api", "/ajax-api")
DEFAULT = Policy()


class Rule(NamedTuple):
    """One line of the table: calls with ``method`` to a path that matches ``path`` require ``scope``."""

    scope: Access
    method: str
    path: re.Pattern[str]
    template: str

    def __str__(self) -> str:
        return f"{self.method} {self.template}"

    def covers(self, other: Rule) -> bool:
        """Tell whether every call that matches the other rule matches this one."""
        return self.method == other.method and bool(self.path.fullmatch(other.template.replace("**", "a/b").replace("*", "a")))


class Scopes:
    """A table of rules.

    Args:
        table: the file. A path with ``{api}`` makes two rules, one for each twin.
        policy: where a deployment's rules differ from the table.

    Raises ValueError for a line that is not a rule.
    """

    def __init__(self, table: Path = TABLE, policy: Policy = DEFAULT) -> None:
        lines = (line for line in table.read_text().splitlines() if line.strip() and not line.startswith("#"))
        self.rules = tuple(rule for line in lines for rule in _rules(line))
        self.overrides = tuple(rule for each in policy.overrides for rule in rules_of(*each))
        self._kind = policy.kind

    def required(self, method: str, raw_path: str) -> Access:
        """Return what a call requires: ``denied`` if no rule covers it.

        Args:
            method: the call's HTTP method.
            raw_path: the path within MLflow as it will be forwarded, still percent-encoded.
        """
        rule = self.rule(method, raw_path)
        if self._kind == "method" and rule not in self.overrides:
            return "read" if method in ("GET", "HEAD") else "write"
        return rule.scope if rule else "denied"

    def permit(self, who: Identity | None, method: str, raw_path: str) -> bool | None:
        """Tell whether an identity may make a call. None if both are right: a bad key on an open path."""
        access = self.required(method, raw_path)
        if access == "open":
            return True if who is None or who.key is None or who.scopes else None
        return access != "denied" and who is not None and who.may(access)

    def rule(self, method: str, raw_path: str) -> Rule | None:
        """Return the rule for a call, from the table or the overrides, or None."""
        method = "GET" if method == "HEAD" else method
        return _first((*self.overrides, *self.rules), method, raw_path)


@functools.cache
def scopes_of(policy: Policy = DEFAULT) -> Scopes:
    """Return the scopes of a deployment with that policy."""
    return Scopes(policy=policy)


def decided_otherwise(policy: Policy, who: Identity | None, method: str, raw_path: str) -> bool:
    """Tell whether a policy decides a caller's call differently from the default table, which tests and signs assume.

    Never true of calls that match no endpoint: they are attempts, and judged as such.
    """
    scopes = scopes_of(policy)
    if policy == DEFAULT or scopes.rule(method, raw_path) is None:
        return False
    return scopes.permit(who, method, raw_path) != scopes_of().permit(who, method, raw_path)


def _first(rules: Iterable[Rule], method: str, raw_path: str) -> Rule | None:
    # MLflow decodes once and then matches: to decide on anything else would be to decide on another call.
    path = unquote(raw_path)
    if _has_odd_segments(path):
        return None
    return next((rule for rule in rules if rule.method == method and rule.path.fullmatch(path)), None)


def _rules(line: str) -> Iterator[Rule]:
    columns = line.split()
    if len(columns) != 3 or columns[0] not in get_args(Scope):
        raise ValueError(f"not a scope, a method and a path: {line!r}")
    scope, method, template = columns
    yield from rules_of(f"{method} {template}", cast(Scope, scope))


def rules_of(endpoint: str, access: Access) -> Iterator[Rule]:
    """Return the rules that give an endpoint such as ``POST /{api}/2.0/mlflow/runs/*`` that access."""
    method, _, template = endpoint.partition(" ")
    for twin in TWINS if "{api}" in template else ("",):
        path = template.replace("/{api}", twin)
        yield Rule(access, method, pattern(path), path)


def _has_odd_segments(path: str) -> bool:
    """Tell whether the next server might see a different path than the one that is written."""
    return any(segment in (".", "..") for segment in path.split("/")) or "//" in path


def pattern(template: str) -> re.Pattern[str]:
    """Return the pattern that matches the decoded paths of a template."""
    parts = re.split(r"(\*\*|\*)", template)
    kinds = {"**": ".+", "*": "[^/]+"}
    return re.compile("".join(kinds.get(part) or re.escape(part) for part in parts), re.DOTALL)
