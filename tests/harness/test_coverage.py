"""Which endpoints a run has exercised, as printed and as written to a file."""

from __future__ import annotations

from pathlib import Path

from mlflow_proxy_e2e.endpoints.coverage import Coverage

TABLE = {("GET", "/models/*"), ("GET", "/models/search"), ("GET", "/files/**"), ("POST", "/files/**"), ("GET", "/health")}


def test_line() -> None:
    """A call counts for the endpoint that answers it: if two match, the one with fewer wildcards."""
    coverage = Coverage(TABLE, {("GET", "/models/*"), ("GET", "/health")}, {("GET", "/models/search"), ("POST", "/files/a%2Fb/c")})

    assert str(coverage) == "5 endpoints: 2 exercised by a scenario, 2 by the matrix alone, 1 untested"


def test_processes_are_added_up() -> None:
    """The calls of several processes are added up, after a trip as plain data."""
    run = Coverage()

    for part in (Coverage(TABLE, {("GET", "/health")}), Coverage(set(), set(), {("GET", "/files/a")})):
        run.add(part.to_data())

    assert run == Coverage(TABLE, {("GET", "/health")}, {("GET", "/files/a")})


def test_table(tmp_path: Path) -> None:
    """The table has a line for each endpoint, by path, and says what has exercised it."""
    file = tmp_path / "endpoints.md"

    Coverage({("GET", "/b"), ("GET", "/a")}, {("GET", "/a")}, {("GET", "/b")}).write(file)

    assert file.read_text().splitlines() == [
        "| endpoint | by a scenario | by every identity |",
        "|---|---|---|",
        "| `GET /a` |  | yes |",
        "| `GET /b` | yes |  |",
    ]
