"""The command ``mlflow-proxy-e2e``: everything that can be done with a deployed target, from an installed package or a clone."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from packaging.requirements import Requirement

from mlflow_proxy_e2e.errors import BadOptionError, SuiteError, SuiteMissingError
from mlflow_proxy_e2e.severity import FAIL_ON, SEVERITIES, chosen
from mlflow_proxy_e2e.suite_folder import CONFIG, ROOT, TESTS

if TYPE_CHECKING:
    from rich.console import Console

    from mlflow_proxy_e2e.facts.facts import Facts
    from mlflow_proxy_e2e.target import Target

# Each command imports what it needs by itself: importing MLflow's client takes seconds, which --help should not.

DISTRIBUTION = "mlflow-proxy-e2e"
EXTRA = "suite"
OWN_TESTS = "tests/e2e"  # the folder in the ids of tests
WELL, WRONG, UNKNOWN = 0, 1, 3  # exit codes of check: nothing found, known cause, unknown cause
NOTHING_TO_CHECK = "check needs a URL, --target=FILE with the profile of a target, or --facts=FILE with earlier observations."
OTHERS = "Others are listed in README.md: 11 a bad option, 12 missing packages, 23 a bad profile, 24 an unreachable target."


class _Commands(click.Group):
    """Commands that end with one message and an exit code if the suite cannot do its work."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the requested command."""
        try:
            return super().invoke(ctx)
        except SuiteError as error:
            _fail(error)
        except ModuleNotFoundError:
            if missing := _missing_packages():
                _fail(SuiteMissingError(missing))
            raise


def _fail(error: SuiteError) -> NoReturn:
    click.echo(error, err=True)
    sys.exit(error.exit_code)


def _target(command: Callable[..., None]) -> Callable[..., None]:
    option = click.option("--target", metavar="FILE", required=True, help="The profile of the target (TOML).")
    return option(command)


@click.group(cls=_Commands)
@click.version_option(package_name=DISTRIBUTION)
def main() -> None:
    """Test MLflow behind a proxy that checks API keys, and name what is wrong."""


def _way_in(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say how to get to a target at a URL."""
    for option in (
        click.option("--proxy", metavar="URL", help="The URL of an HTTP proxy on the way."),
        click.option("--ca", metavar="FILE", help="The file of the authority that the target's certificate is checked against."),
        click.option(
            "--key",
            "variable",
            metavar="VARIABLE",
            default="E2E_KEY_PLATFORM",
            show_default=True,
            help="The environment variable with a key, or with user:password.",
        ),
    ):
        command = option(command)
    return command


@main.command(
    epilog="Exit codes: 0 no problem that --fail-on names, 1 the cause is known, 3 the cause is unknown, or there was no time "
    f"to ask about some causes. {OTHERS}"
)
@click.argument("url", required=False)
@_way_in
@click.option("--key-stdin", is_flag=True, help="Read the key from standard input instead.")
@click.option(
    "--write", "may_create", is_flag=True, help="With URL: also ask what needs an experiment, which is removed afterwards."
)
@click.option("--target", "profile", metavar="FILE", type=click.Path(path_type=Path), help="Instead of URL: the target's profile.")
@click.option(
    "--facts",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write all observations to FILE, without keys. Without URL and --target: read them from FILE, without a network.",
)
@click.option("--wait", metavar="DURATION", default="0", help="Check again until nothing is wrong, for up to 90s, 5m or the like.")
@click.option("--skip", "skipped", metavar="ID", multiple=True, help="Accept a cause. May be repeated.")
@click.option(
    "--fail-on",
    metavar="SEVERITIES",
    default=",".join(FAIL_ON),
    show_default=True,
    help=f"The severities that count as wrong, separated by commas: {', '.join(SEVERITIES)}.",
)
@click.option("--short", "is_short", is_flag=True, help="Print only what is wrong.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
def check(facts: Path | None, fail_on: str, *, is_short: bool, as_json: bool, **where: Any) -> None:
    """Say what works and what is wrong, without running any test.

    The target is at URL, given as in MLFLOW_TRACKING_URI, or described by a profile. At a URL, nothing is created or changed unless
    --write is given.
    """
    from mlflow_proxy_e2e import acceptance
    from mlflow_proxy_e2e.diagnosis import conclude
    from mlflow_proxy_e2e.report import checklist

    severities = chosen(fail_on)
    console = checklist.console(is_quiet=as_json or is_short)
    observed = _observed(console, facts, severities, **where)
    verdict = conclude(observed)
    if as_json:
        click.echo(json.dumps(verdict.to_data(), indent=2))
    else:
        checklist.write(checklist.console(), verdict, severities, is_short=is_short)
    if error := acceptance.error(acceptance.outdated(observed.target)):
        click.echo(error, err=True)
    if wrong := verdict.fails(severities):
        sys.exit(WRONG if wrong[0].causes else UNKNOWN)
    if error:
        sys.exit(error.exit_code)
    sys.exit(UNKNOWN if verdict.not_asked else WELL)


def _observed(
    console: Console,
    facts: Path | None,
    fail_on: Sequence[str],
    *,
    wait: str,
    skipped: Sequence[str],
    may_create: bool,
    **where: Any,
) -> Facts:
    """Return the facts about the target at a URL or in a profile, or those in a file."""
    from mlflow_proxy_e2e import checking

    checking.known(skipped)
    find = _target_to_check(**where)
    seconds = checking.duration("--wait", wait)
    if find is None:
        if facts is None:
            raise BadOptionError(NOTHING_TO_CHECK)
        return checking.recorded(facts, skipped)
    once = partial(checking.check, find, console, skipped, may_create=may_create or where["profile"] is not None)
    observed = checking.check_until_well(once, console, fail_on, seconds)
    if facts:
        observed.write(facts)
    return observed


def _target_to_check(
    *, url: str | None, profile: Path | None, variable: str, key_stdin: bool, ca: str | None, proxy: str | None
) -> Callable[[], Target] | None:
    """Return a function that returns the target at a URL or in a profile, or None if neither is given."""
    from mlflow_proxy_e2e import init
    from mlflow_proxy_e2e.profile import load

    if url and profile:
        raise BadOptionError("check takes a URL or --target=FILE, not both.")
    if profile:
        return partial(load, profile)
    if not url:
        return None
    key = init.key_from(sys.stdin.readline()) if key_stdin else init.key_in(variable)
    return partial(init.target_at, url, key, None if key_stdin else variable, ca, proxy)


def _runs_tests(command: Callable[..., None]) -> Callable[..., None]:
    arguments = click.argument("pytest_arguments", metavar="[PYTEST ARGUMENTS]...", nargs=-1, type=click.UNPROCESSED)
    epilog = f"Exit codes: 0 no problem that --fail-on names, 1 the target fails a test, 2 to 5 are pytest's own. {OTHERS}"
    return main.command(epilog=epilog, context_settings={"ignore_unknown_options": True})(_target(arguments(command)))


@_runs_tests
def smoke(target: str, pytest_arguments: Sequence[str]) -> None:
    """Test the essentials, in seconds.

    Two tests run at a time. Any arguments of pytest's may follow, such as -n 4, -k, the id of a test, --report-json=FILE,
    or --fail-on=open,loss for the severities that make the run fail.
    """
    _run_tests("smoke", "2", target, pytest_arguments)


@_runs_tests
def e2e(target: str, pytest_arguments: Sequence[str]) -> None:
    """Test everything that the target's profile promises.

    One test per processor runs at a time. Any arguments of pytest's may follow, such as -n 2, -k, the id of a test,
    --report-json=FILE, or --fail-on=open,loss for the severities that make the run fail.
    """
    _run_tests("e2e", "auto", target, pytest_arguments)


def _run_tests(mark: str, workers: str, target: str, arguments: Sequence[str]) -> NoReturn:
    """Replace this process with pytest, which gets signals and exits as if the user had started it."""
    if missing := _missing_packages():
        raise SuiteMissingError(missing)
    located = [_located(argument) for argument in arguments]
    tests = [] if located != list(arguments) else [str(TESTS)]
    options = (f"--config-file={CONFIG}", f"--rootdir={ROOT}", "-m", mark, "-n", workers, f"--target={target}")
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *options, *located, *tests])  # noqa: S606


def _located(argument: str) -> str:
    """Return the id of a test so that pytest finds it from any folder, and any other argument unchanged."""
    file = argument.partition("::")[0]
    return f"{ROOT}/{argument}" if file.startswith(OWN_TESTS) and (ROOT / file).exists() else argument


def _missing_packages() -> list[str]:
    """Return the packages that tests need and that are not installed."""
    try:
        wanted = map(Requirement, metadata.requires(DISTRIBUTION) or ())
    except metadata.PackageNotFoundError:
        return []  # run from a checkout that is not installed
    needed = [each.name for each in wanted if not each.marker or each.marker.evaluate({"extra": EXTRA})]
    return [name for name in needed if not _is_installed(name)]


def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


@main.command(epilog=f"Exit codes: 0 everything is removed, 26 something cannot be removed. {OTHERS}")
@_target
def sweep(target: str) -> None:
    """Remove from a target what killed runs have left there."""
    from mlflow_proxy_e2e import profile
    from mlflow_proxy_e2e.deployed import DeployedStack

    swept = DeployedStack(profile.load(Path(target))).sweep()
    click.echo(swept)
    sys.exit(swept.exit_code)


@main.command(epilog=f"Exit codes: 0 the profile is printed. {OTHERS}")
@click.argument("url")
@_way_in
def init(url: str, variable: str, ca: str | None, proxy: str | None) -> None:
    """Print a first profile for the target at URL, given as in MLFLOW_TRACKING_URI.

    The target is only read from; nothing is changed there. Review the profile before you use it.
    """
    from mlflow_proxy_e2e.init import first_profile

    click.echo(first_profile(url, variable, ca, proxy), nl=False)


@main.command(epilog=f"Exit codes: 0 the page is printed. {OTHERS}")
@click.argument("cause", metavar="ID")
def explain(cause: str) -> None:
    """Print what is known about a cause: symptom, fix, and how it is recognised. IDs are those that verdicts have."""
    from mlflow_proxy_e2e.causes.pages import page
    from mlflow_proxy_e2e.checking import known

    click.echo(page(known([cause])[0]))
