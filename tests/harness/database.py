"""The content of MLflow's database, as its owner sees it."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from fixtures.stack.process import ProcessStack
from mlflow_proxy_e2e.run import NAME

Row = Mapping[str, object]

ACTIVE = {
    "experiment": "SELECT name FROM experiments WHERE lifecycle_stage = 'active'",
    "model": "SELECT name FROM registered_models",
    "dataset": "SELECT name FROM evaluation_datasets",
    "webhook": "SELECT name FROM webhooks WHERE deleted_timestamp IS NULL",
}
DELETED: Mapping[str, Callable[[Row], bool]] = {  # by table, how a row is marked as deleted
    "experiments": lambda row: row["lifecycle_stage"] == "deleted",
    "webhooks": lambda row: row["deleted_timestamp"] is not None,
}
UNCHANGED: Mapping[str, list[Row]] = {"gone": [], "new": []}


class Reference(NamedTuple):
    """The columns of a table that say to which row of another table a row belongs."""

    columns: tuple[str, ...]
    to: str
    there: tuple[str, ...]


# Relations that MLflow's schema does not declare.
UNSAID = {
    "inputs": (Reference(("source_id",), "runs", ("run_uuid",)), Reference(("destination_id",), "runs", ("run_uuid",))),
    "input_tags": (Reference(("input_uuid",), "inputs", ("input_uuid",)),),
    "entity_associations": (Reference(("source_id",), "trace_info", ("request_id",)),),
}


Rows = Counter[tuple[object, ...]]


def file_of(stack: ProcessStack) -> Path:
    """Return the database of a stack's MLflow."""
    assert stack.folder
    (file,) = (stack.folder.path / "mlflow").glob("*.db")
    return file


def content(database: Path) -> Rows:
    """Return all rows of all tables."""
    with closing(_open(database)) as connection:
        return Counter((table, *row.values()) for table, row in _rows(connection))


def of_runs(database: Path) -> list[str]:
    """Return the names of active objects that runs have created."""
    with closing(_open(database)) as connection:
        names = [(kind, str(row["name"])) for kind, query in ACTIVE.items() for row in connection.execute(query)]
    return sorted(f"{kind} {name}" for kind, name in names if NAME.match(name))


def changes(database: Path, before: Rows) -> Mapping[str, list[Row]]:
    """Return what has disappeared, and what is new without belonging to a deleted object of a run: UNCHANGED if all is well."""
    gone: list[Row] = [{"table": table, "values": values} for table, *values in before - content(database)]
    with closing(_open(database)) as connection:
        left = [(table, row) for table, row in _rows(connection) if (table, *row.values()) not in before]
        references = {table: [*_references(connection, table), *UNSAID.get(table, ())] for table, _ in left}
    looked_up = {(reference.to, reference.there) for found in references.values() for reference in found}
    ours: set[tuple[object, ...]] = set()

    def belongs(table: str, row: Row) -> bool:
        removed = table in DELETED and DELETED[table](row) and NAME.match(str(row["name"])) is not None
        return removed or any((r.to, r.there, *(row[column] for column in r.columns)) in ours for r in references[table])

    while found := [one for one in left if belongs(*one)]:
        left = [one for one in left if not belongs(*one)]
        ours |= {(to, there, *(row[column] for column in there)) for table, row in found for to, there in looked_up if to == table}
    return {"gone": gone, "new": [{"table": table, **row} for table, row in left]}


def _open(database: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    return connection


def _rows(connection: sqlite3.Connection) -> Iterator[tuple[str, dict[str, object]]]:
    for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        yield from ((table, dict(row)) for row in connection.execute(f'SELECT * FROM "{table}"'))  # noqa: S608


def _references(connection: sqlite3.Connection, table: str) -> Iterator[Reference]:
    by_number: dict[int, list[sqlite3.Row]] = {}
    for row in connection.execute(f'PRAGMA foreign_key_list("{table}")'):
        by_number.setdefault(row["id"], []).append(row)
    for rows in by_number.values():
        yield Reference(tuple(row["from"] for row in rows), rows[0]["table"], tuple(row["to"] for row in rows))
