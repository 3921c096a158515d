"""The catalogue of faults: how causes are injected, and the page for people."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from fixtures.faults import catalogue
from fixtures.faults.catalogue import FAULTS, RENAMED
from fixtures.faults.pages import listing, page
from fixtures.faults.snippets import Snippets
from fixtures.stack.images import IN_IMAGE
from mlflow_proxy_e2e.causes import catalogue as causes
from tests.harness.conftest import ROOT, StartRun

NEVER_STARTS = {"database-missing"}  # there is no system to test: see test_bad_input
IMPORTED = """
import sys, fixtures.faults.careless_auth
for name, module in list(sys.modules.items()):
    if name.startswith(("fixtures", "mlflow_proxy_e2e")):
        print(module.__file__)
"""


def _family(module: ModuleType) -> str:
    """Return the names of a module's folder and of the module."""
    return "/".join(module.__name__.split(".")[-2:])


def test_page_of_faults() -> None:
    """The documentation has the current catalogue."""
    assert (ROOT / "docs" / "faults.md").read_text() == page()


def test_faults_stand_where_their_causes_do() -> None:
    """Every fault is in the catalogue of causes, in the family of the same name."""
    families = {cause.id: family.name for family in causes.FAMILIES for cause in family.causes}

    for family in catalogue.FAMILIES:
        for fault in family.FAULTS:
            assert families[fault.cause] == _family(family), fault.id


def test_former_ids() -> None:
    """A former id leads to an existing fault, and is not the id of another one."""
    assert set(RENAMED.values()) <= set(FAULTS)
    assert not set(RENAMED) & set(FAULTS)


def test_every_fault_is_shown_to_be_detected() -> None:
    """Every fault in the catalogue has a test that it makes fail."""
    assert {fault.id for fault in FAULTS.values() if not fault.shown_by} == NEVER_STARTS


def test_list_of_faults(start_run: StartRun) -> None:
    """The catalogue is printed by itself: each fault under its hop, with its symptom, and nothing is started."""
    run = start_run("--list-faults")

    assert run.wait() == pytest.ExitCode.OK
    assert run.output.strip() == listing().strip()
    for fault in FAULTS.values():
        assert f"  {fault.id}\n    symptom  {causes.CATALOGUE[fault.cause].symptom}\n" in run.output


def test_careless_auth_services_run_in_the_image() -> None:
    """The careless auth services import nothing of the project that the image does not have."""
    imported = subprocess.run([sys.executable, "-c", IMPORTED], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    there = [ROOT / name for name in IN_IMAGE]
    for file in map(Path, imported.splitlines()):
        assert any(file.is_relative_to(path) for path in there), file


def test_snippets(tmp_path: Path) -> None:
    """Parameters are filled in, and dollar signs in Lua's patterns stay. A missing parameter is an error."""
    (tmp_path / "cut.lua").write_text('string.match(path, "^(.*)$", ${start})\n')
    (tmp_path / "rule.yaml").write_text('match: {prefix: "${prefix}/"}\n')
    snippets = Snippets(str(tmp_path / "module.py"))

    assert snippets.text("cut.lua", start=1) == 'string.match(path, "^(.*)$", 1)\n'
    assert snippets.yaml("rule.yaml", prefix="/mlflow") == {"match": {"prefix": "/mlflow/"}}
    with pytest.raises(KeyError, match="start"):
        snippets.text("cut.lua")
