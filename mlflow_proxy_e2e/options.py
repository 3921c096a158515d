"""Options about a target: which one, which part of it, and where the result goes."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TypeVar

import pytest

from mlflow_proxy_e2e import profile, timeouts
from mlflow_proxy_e2e.deployed import DeployedStack
from mlflow_proxy_e2e.errors import BadOptionError
from mlflow_proxy_e2e.severity import FAIL_ON, SEVERITIES
from mlflow_proxy_e2e.target import Identity, Route, Target

Named = TypeVar("Named", Route, Identity)
SECONDS_OF_A_DAY = 86400
GROUP = "mlflow-proxy-e2e"  # the heading of the suite's options in pytest's --help


def declare(parser: pytest.Parser) -> None:
    """Add the options to pytest's."""
    group = parser.getgroup(GROUP)
    group.addoption("--target", metavar="FILE", help="the profile of a deployed target (TOML)")
    group.addoption("--sweep", action="store_true", help="remove what killed runs left on the target, and do nothing else")
    group.addoption("--route", metavar="NAME", action="append", help="only this route; may be repeated (default: all)")
    group.addoption("--identity", metavar="NAME", action="append", help="only this identity; may be repeated (default: all)")
    group.addoption(
        "--fail-on",
        metavar="SEVERITIES",
        default=",".join(FAIL_ON),
        help=f"what makes the run fail, separated by commas: {', '.join(SEVERITIES)} (default: %(default)s)",
    )
    group.addoption(
        "--diagnosis-time",
        metavar="SECONDS",
        default=timeouts.DIAGNOSIS,
        help=f"for finding out why tests have failed: distant or slow targets need more (default: {timeouts.DIAGNOSIS:g})",
    )
    group.addoption("--endpoints", metavar="FILE", help="write which endpoints of MLflow were exercised, and by what (Markdown)")
    group.addoption("--report-html", metavar="FILE", help="write the result as a page for people")
    group.addoption("--report-json", metavar="FILE", help="write the result as JSON (docs/report.schema.json)")
    group.addoption("--report-prometheus", metavar="FILE", help="write the result for node_exporter's textfile collector")
    group.addoption("--report-emf", metavar="FILE", help="append the result to a log for CloudWatch; - for standard output")
    group.addoption("--history", metavar="FOLDER", help="keep the result there, and print what is newly broken, fixed or flaky")


def deployed(config: pytest.Config) -> DeployedStack:
    """Return the requested deployed target. Raises BadOptionError if there is none, BadProfileError."""
    file = config.getoption("--target")
    if not file:
        raise BadOptionError("There is nothing to run against. Give the profile of a deployed target: --target=FILE.")
    return DeployedStack(profile.load(config.invocation_params.dir / file))


def seconds(option: str, given: object) -> float:
    """Return the value of an option with a number of seconds. Raises BadOptionError."""
    with suppress(ValueError):
        if 0 < (number := float(str(given))) < SECONDS_OF_A_DAY:
            return number
    raise BadOptionError(f"{option} {given}: expected a number of seconds above 0.")


def diagnosis_time(config: pytest.Config) -> float:
    """Return how many seconds a diagnosis may take. Raises BadOptionError."""
    return seconds("--diagnosis-time", config.getoption("--diagnosis-time"))


def check_selection(config: pytest.Config, target: Target) -> None:
    """Raise BadOptionError if the target lacks a requested route or identity."""
    for option, there_are in (("--route", target.routes), ("--identity", target.identities)):
        for name in config.getoption(option) or ():
            if name not in map(str, there_are):
                names = ", ".join(sorted(map(str, there_are)))
                raise BadOptionError(f"{option} {name}: the target has none with that name. It has: {names}.")


def selected(config: pytest.Config, option: str, there_are: Iterable[Named]) -> list[Named]:
    """Return the ones that ``option`` names, or all."""
    asked = config.getoption(option)
    return sorted((one for one in there_are if not asked or str(one) in asked), key=str)
