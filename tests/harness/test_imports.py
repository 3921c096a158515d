"""Imports go one way, as the contracts in pyproject.toml say; and these contracts notice violations."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.conftest import ROOT

LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")
PACKAGES = ("fixtures", "mlflow_proxy_e2e", "tests")


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Return the contracts' verdict on the packages in a folder."""
    command = [str(LINT_IMPORTS), "--no-cache", "--config", str(ROOT / "pyproject.toml")]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_imports_go_one_way() -> None:
    """Every contract is kept."""
    ended = lint(ROOT)

    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize(
    ("module", "imported", "contract"),
    [
        ("mlflow_proxy_e2e/target.py", "mlflow_proxy_e2e.report", "Each part of the product imports from those below it"),
        ("mlflow_proxy_e2e/report/emf.py", "mlflow_proxy_e2e.diagnosis.reach", "Reports know verdicts"),
        ("mlflow_proxy_e2e/keys.py", "fixtures.stack.identities", "The product knows nothing of the lab"),
        ("tests/e2e/test_runs.py", "fixtures.stack.process", "Tests of a target need nothing but the product"),
        ("fixtures/services/envoy.py", "fixtures.stack.ports", "No two modules or folders import each other"),
        ("fixtures/stack/ports.py", "fixtures.stack.process", "No two modules or folders import each other"),
    ],
    ids=["layer", "report", "lab", "test", "folders", "modules"],
)
def test_import_against_the_rules(module: str, imported: str, contract: str, tmp_path: Path) -> None:
    """An import that goes the other way, or closes a circle, breaks the contract that forbids it."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / module).open("a") as file:
        file.write(f"\nimport {imported}\n")

    ended = lint(tmp_path)

    assert ended.returncode == 1, ended.stdout
    assert any(line.startswith(contract) and "BROKEN" in line for line in ended.stdout.splitlines()), ended.stdout
