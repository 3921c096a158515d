"""``python -m bench [containers|smoke] [--short]``: how long things take. Each round measures both sides of a ratio.

stack ready / plain server ready    what the three other services add to MLflow's start
e2e run / floor                     what the suite adds to what cannot be avoided: see ``bench.floor``
smoke by profile                    seconds that ``-m smoke`` takes on two workers, by nothing but the profile of a stack that is up
verdict on a healthy stack          seconds that a diagnosis takes to find nothing wrong

``smoke`` prints only the last two, and ``containers`` another one:

container stack ready / process stack ready     what containers add to the start, with the images built

``--short`` measures one round with a few test files, to check that everything still runs. No timing is asserted.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import click

from bench.commands import SMOKE, run
from bench.floor import plain_server, record, run_floor
from fixtures.profiles import write_profile
from fixtures.stack.owned import OwnedStack
from fixtures.stack.process import ProcessStack
from mlflow_proxy_e2e.diagnosis import diagnose
from mlflow_proxy_e2e.target import Target

ROUNDS = 3
# Some of each kind: MLflow's client, its background threads, raw connections, and a test that makes its calls in threads.
FEW_TESTS = (
    *("tests/e2e/test_runs.py", "tests/e2e/test_traces.py"),
    *("tests/e2e/test_fidelity_requests.py", "tests/e2e/test_every_endpoint.py"),
    *("-k", "internal and not api"),
)
READY = "stack ready / plain server ready"
E2E_RUN = "e2e run / floor"
CONTAINERS_READY = "container stack ready / process stack ready"
SMOKE_RUN = "smoke by profile"
VERDICT = "verdict on a healthy stack"
TITLES = (READY, E2E_RUN, CONTAINERS_READY, SMOKE_RUN, VERDICT)  # in the order of the table


class Table:
    """The measurements by title: seconds, or a pair of them that is shown as a ratio."""

    def __init__(self) -> None:
        self._rows: dict[str, list[tuple[float, ...]]] = {title: [] for title in TITLES}

    def add(self, title: str, *measured: float) -> None:
        """Add the result of one round, and print it to standard error as progress."""
        self._rows[title].append(measured)
        click.echo(f"{title}: {_each(measured)}", err=True)

    def __str__(self) -> str:
        lines = [("", "median", "each round")]
        for title, rounds in self._rows.items():
            if not rounds:
                continue
            median = statistics.median(map(_figure, rounds))
            lines.append((title, f"{median:.2f}" if len(rounds[0]) > 1 else f"{median:.1f} s", ", ".join(map(_each, rounds))))
        width = max(len(title) for title, *_ in lines)
        return "\n".join(f"{title:<{width}}  {median:>7}  {each}" for title, median, each in lines)


def _figure(measured: Sequence[float]) -> float:
    return measured[0] / measured[1] if len(measured) > 1 else measured[0]


def _each(measured: Sequence[float]) -> str:
    seconds = " / ".join(f"{each:.1f} s" for each in measured)
    return f"{seconds} = {_figure(measured):.2f}" if len(measured) > 1 else seconds


@contextmanager
def running(stack: OwnedStack) -> Iterator[Target]:
    """Run a stack: the block is entered when it is ready. Raises SuiteError."""
    try:
        target = stack.start()
        for _ in stack.until_ready():
            pass
        yield target
    finally:
        stack.stop()


def seconds(action: Callable[[], object]) -> float:
    """Return how long ``action`` takes."""
    began = time.monotonic()
    action()
    return time.monotonic() - began


def seconds_until_ready(system: AbstractContextManager[object]) -> float:
    """Return how long ``system`` takes to come up."""
    began = time.monotonic()
    with system:
        return time.monotonic() - began


def measure_everything(table: Table, rounds: int, tests: Sequence[str]) -> None:
    """Add everything that works without Docker. Raises SuiteError, click.ClickException."""
    for _ in range(rounds):
        began = time.monotonic()
        with running(ProcessStack()) as target:
            stack_ready = time.monotonic() - began
            measure_live(table, target)
        table.add(READY, stack_ready, seconds_until_ready(plain_server()))
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            table.add(E2E_RUN, seconds(partial(record, tests, folder)), seconds(partial(run_floor, folder)))


def measure_smoke(table: Table, rounds: int) -> None:
    """Add smoke and verdict, all rounds on one stack. Raises SuiteError, click.ClickException."""
    with running(ProcessStack()) as target:
        for _ in range(rounds):
            measure_live(table, target)


def measure_live(table: Table, target: Target) -> None:
    """Add one round of smoke and verdict on a target that is up. Raises click.ClickException."""
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder, "live.toml")
        environment = {**write_profile(target, profile), "XDG_STATE_HOME": folder}
        table.add(SMOKE_RUN, seconds(lambda: run([*SMOKE, f"--target={profile}"], environment)))
    table.add(VERDICT, seconds(lambda: diagnose(target)))


def measure_containers(table: Table, rounds: int) -> None:
    """Add the startup of both stacks. Raises SuiteError."""
    from fixtures.stack.container import ContainerStack  # its imports are only needed with Docker

    ContainerStack().prepare()
    for _ in range(rounds):
        on_containers = seconds_until_ready(running(ContainerStack()))
        table.add(CONTAINERS_READY, on_containers, seconds_until_ready(running(ProcessStack())))


@click.command()
@click.argument("what", type=click.Choice(["everything", "containers", "smoke"]), default="everything")
@click.option("--short", is_flag=True, help="One round with a few test files, to check that everything still runs.")
def main(what: str, *, short: bool) -> None:
    """Print how long startup, a run, smoke and a diagnosis take, as ratios where there is something to compare with."""
    table, rounds = Table(), 1 if short else ROUNDS
    if what == "containers":
        measure_containers(table, rounds)
    elif what == "smoke":
        measure_smoke(table, rounds)
    else:
        measure_everything(table, rounds, FEW_TESTS if short else ())
    click.echo(table)


if __name__ == "__main__":
    main()
