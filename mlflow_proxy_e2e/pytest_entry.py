"""What pytest loads in every run where this package is installed: it looks at what is to be run, and at nothing else.

The plugin itself is registered where tests of this suite are asked for. Other runs get no option and no hook of it.
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
    """Register the plugin if the run is in the folder of this suite, or its tests are named: by path, or with ``--pyargs``."""
    named = [argument.partition("::")[0] for argument in args]
    by_module = "--pyargs" in args and any(f"{name}.".startswith(f"{PACKAGE}.") for name in named)
    if by_module or any(_is_packaged(path) for path in (os.curdir, *named)):
        early_config.pluginmanager.import_plugin(PLUGIN)  # which does nothing where a conftest has registered it


def _is_packaged(path: str) -> bool:
    return f"{os.path.realpath(path)}{os.sep}".startswith(f"{PACKAGED}{os.sep}")
