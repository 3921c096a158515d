"""Loaded by every pytest run where this package is installed: it only looks at which tests are requested.

The plugin itself is registered if tests of this suite are requested. Other runs get none of its options and hooks.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

PACKAGE = "mlflow_proxy_e2e"
PLUGIN = f"{PACKAGE}.plugin"
PACKAGED = f"{os.path.realpath(os.path.dirname(__file__))}{os.sep}suite"  # noqa: PTH120  # not with pathlib, which others may not need


def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Register the plugin if the run is in this suite's folder, or its tests are named by path or with ``--pyargs``."""
    named = [argument.partition("::")[0] for argument in args]
    by_module = "--pyargs" in args and any(f"{name}.".startswith(f"{PACKAGE}.") for name in named)
    if by_module or any(_is_packaged(path) for path in (os.curdir, *named)):
        early_config.pluginmanager.import_plugin(PLUGIN)  # no effect if a conftest has registered it


def _is_packaged(path: str) -> bool:
    return f"{os.path.realpath(path)}{os.sep}".startswith(f"{PACKAGED}{os.sep}")
