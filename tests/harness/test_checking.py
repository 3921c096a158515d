"""The command ``check``: durations, accepted causes, and its output for people."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from mlflow_proxy_e2e import checking, cli
from mlflow_proxy_e2e.causes.catalogue import CATALOGUE
from mlflow_proxy_e2e.diagnosis import conclude
from mlflow_proxy_e2e.diagnosis.verdict import Finding, Verdict
from mlflow_proxy_e2e.errors import BadOptionError
from mlflow_proxy_e2e.report import checklist
from mlflow_proxy_e2e.severity import FAIL_ON


@pytest.mark.parametrize(("given", "seconds"), [("0", 0), ("90", 90), ("90s", 90), ("5m", 300), ("1h", 3600)])
def test_duration(given: str, seconds: float) -> None:
    """A duration is a number with or without a unit."""
    assert checking.duration("--wait", given) == seconds


@pytest.mark.parametrize("given", ["", "soon", "-5", "5 m", "1.5m", "5d"])
def test_duration_that_is_none(given: str) -> None:
    """Anything else is one clear message."""
    with pytest.raises(BadOptionError, match=r"--wait .*: expected a duration such as 90s or 5m\."):
        checking.duration("--wait", given)


def test_cause_that_is_skipped(recordings: Mapping[str, Path]) -> None:
    """A skipped cause is accepted, and its promise says so."""
    verdict = conclude(checking.recorded(recordings["key-check-off"], ["key-check-off"]))

    assert not verdict.fails(FAIL_ON)
    assert [(promise.outcome, promise.found) for promise in verdict.promises if promise.found] == [("accepted", ("key-check-off",))]


@pytest.mark.parametrize(
    ("place", "mark", "kept"),
    [("pipe", "\n  FAIL no request gets", "\n  ok   "), ("terminal", "\n  ✗ no request gets", "\n  ✓ ")],
)
def test_list_of_promises(place: str, mark: str, kept: str, recordings: Mapping[str, Path]) -> None:
    """What is broken has its cause and remedy under it, and outside a terminal there is nothing but ASCII."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=place == "terminal", no_color=True, width=200)

    checklist.write(console, conclude(checking.recorded(recordings["key-check-off"], [])), FAIL_ON)

    text = "".join(part.partition("m")[2] if number else part for number, part in enumerate(out.getvalue().split("\x1b[")))
    cause = CATALOGUE["key-check-off"]  # type: ignore[index]
    assert (
        f"{mark} around the key check\n      open: key-check-off (proxy)\n      {cause.what}\n      fix: {cause.remedy}\n" in text
    )
    assert kept in text
    assert text.isascii() == (place == "pipe")


def test_verdict_that_is_short(recordings: Mapping[str, Path]) -> None:
    """A short output has only what is wrong."""
    ended = CliRunner().invoke(cli.main, ["check", f"--facts={recordings['key-check-off']}", "--short"])

    assert ended.exit_code == 1
    assert ended.stdout.startswith("hop        proxy\ncause      key-check-off\n")


@pytest.mark.parametrize("cause", CATALOGUE)
def test_explanation(cause: str) -> None:
    """Every cause can be explained."""
    ended = CliRunner().invoke(cli.main, ["explain", cause])

    assert ended.exit_code == 0
    assert ended.stdout.startswith(f"# {cause}\n")
    assert "## How to fix it\n" in ended.stdout


def test_explanation_of_no_cause() -> None:
    """An unknown id is one message, with similar ones."""
    ended = CliRunner().invoke(cli.main, ["explain", "key-chek-off"])

    assert ended.exit_code == BadOptionError.exit_code
    assert ended.stderr.startswith("There is no cause 'key-chek-off'. Similar are: key-check-off")


def test_unknown_cause_that_is_skipped(recordings: Mapping[str, Path]) -> None:
    """A misspelled id to skip is one message."""
    ended = CliRunner().invoke(cli.main, ["check", f"--facts={recordings['key-check-off']}", "--skip=key-chek-off"])

    assert ended.exit_code == BadOptionError.exit_code
    assert ended.stderr.startswith("There is no cause 'key-chek-off'. Similar are: key-check-off")


def test_problem_without_a_name() -> None:
    """What no known cause explains has a line of its own, so that not everything looks well."""
    out = io.StringIO()
    finding = Finding(("proxy", "mlflow"), (), "down", ("the same call fails now and then",), (), ("502", "200"))

    checklist.write(Console(file=out, width=200), Verdict((finding,)), FAIL_ON)

    assert "\nunknown cause\n  FAIL down: the same call fails now and then (proxy or mlflow)\n" in out.getvalue()


@pytest.mark.parametrize("arguments", [[], ["https://example.com", "--target", "x.toml"]], ids=["nothing", "both"])
def test_what_to_check(arguments: list[str]) -> None:
    """It is one of several things."""
    ended = CliRunner().invoke(cli.main, ["check", *arguments])

    assert ended.exit_code == BadOptionError.exit_code
    assert ended.stderr.startswith("check ")
