"""Where the tests of a target are: in the installed package, or in the clone of an editable installation."""

from __future__ import annotations

from pathlib import Path

from mlflow_proxy_e2e.pytest_entry import PACKAGED

_IS_PACKAGED = Path(PACKAGED, "tests").is_dir()
ROOT = Path(PACKAGED) if _IS_PACKAGED else Path(__file__).resolve().parents[1]  # the ids of tests are relative to it
CONFIG = ROOT / ("pytest.toml" if _IS_PACKAGED else "pyproject.toml")
TESTS = ROOT / "tests" / "e2e"
