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
PACKAGED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "suite")  # noqa: PTH100, PTH118, PTH120  # pathlib may cost an import


def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Register the plugin if the arguments name tests of this suite: by their folder, or as ``--pyargs mlflow_proxy_e2e…``."""
    by_name = "--pyargs" in args
    if any(_is_ours(argument.partition("::")[0], by_name=by_name) for argument in args):
        early_config.pluginmanager.import_plugin(PLUGIN)  # which does nothing where a conftest has registered it


def _is_ours(argument: str, *, by_name: bool) -> bool:
    if by_name and (argument == PACKAGE or argument.startswith(f"{PACKAGE}.")):
        return True
    return f"{os.path.abspath(argument)}{os.sep}".startswith(f"{PACKAGED}{os.sep}")  # noqa: PTH100
