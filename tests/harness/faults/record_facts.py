"""Records the facts of every system of the lab, to test the catalogue without starting one: ``tox -e record``.

``tox -e record -- -k plus-decoded`` records that system again, and keeps the others.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

from fixtures.stack.process import ProcessStack
from mlflow_proxy_e2e.diagnosis import conclude, observed
from tests.harness.conftest import RECORDINGS, ROOT
from tests.harness.faults.conftest import PATIENT
from tests.harness.faults.systems import SYSTEMS, up

FOLDER = "FACTS_FOLDER"  # the environment variable with the folder that all workers write to


@pytest.mark.parametrize("name", SYSTEMS)
def test_record(name: str, trunk: ProcessStack) -> None:
    """The facts of a system are recorded."""
    with up(name, trunk) as target:
        facts = observed(target, seconds=PATIENT)
    assert not conclude(facts).not_asked, "out of time: record this system again, on a quieter machine"
    facts.write(Path(os.environ[FOLDER], f"{name}.json"))


def pack(folder: Path) -> None:
    """Put the recordings in a folder into the archive, replacing those of the same systems and keeping the others."""
    kept = folder / "kept"
    if RECORDINGS.exists():
        with tarfile.open(RECORDINGS) as archive:
            archive.extractall(kept, filter="data")
    files = {file.name: file for place in (kept, folder) for file in place.glob("*.json") if file.stem in SYSTEMS}
    with tarfile.open(RECORDINGS, "w:xz") as archive:
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size = files[name].stat().st_size
            with files[name].open("rb") as content:
                archive.addfile(entry, content)


def main() -> int:
    """Record the systems that pytest's arguments select, and return its exit code. Whatever could be recorded is kept."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pytest", __file__, "-p", "no:cacheprovider", "--dist", "worksteal", *sys.argv[1:]]
        ended = subprocess.run(command, cwd=ROOT, env={**os.environ, FOLDER: folder}, check=False).returncode
        pack(Path(folder))
    return ended


if __name__ == "__main__":
    sys.exit(main())
