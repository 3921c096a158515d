"""Runs against a deployed system: its own data stays unchanged, and nothing of a run is left, however it ends."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.entities import Metric

from fixtures.profiles import LIMITS, write_profile
from fixtures.stack.process import ProcessStack
from mlflow_proxy_e2e.clients import signed_in
from mlflow_proxy_e2e.errors import BadOptionError, RequestLimitError
from mlflow_proxy_e2e.init import SHOWN_BY, look, profile
from mlflow_proxy_e2e.profile import load
from mlflow_proxy_e2e.run import PREFIX, Run
from mlflow_proxy_e2e.scratch import remove
from mlflow_proxy_e2e.target import Identity, Route, Target
from mlflow_proxy_e2e.traffic import CALLS
from tests.harness.conftest import RUN_SECONDS, StartRun, wait_until
from tests.harness.conftest import Run as SuiteRun
from tests.harness.database import UNCHANGED, changes, content, file_of, of_runs
from tests.harness.servers import Server, json_answer, says
from tests.harness.test_hostile_targets import ends, hangs

MOMENTS, FOR_EVERY_CHANGE = 20, 4  # at which a run is killed
SECONDS_TO_LIVE = 4.0  # at most, until it is killed: the shortest of them takes 5 s once it creates something
ALL_TESTS_SECONDS = 1800.0  # for all tests on a busy machine: 90 s are usual
PROMPTS_EXPERIMENTS = "_mlflow_experiment_ids"  # the tag
SOMEBODYS = "e2e-20000101-of-somebody"  # a name similar to those of runs
E2E = "tests/e2e"
REGISTRY = tuple(f"{E2E}/test_{about}.py" for about in ("registered_models", "prompts", "datasets", "webhooks"))
# The tests that run when a run is killed, in turn: together, they create everything that a run creates.
KILLED = (
    (*REGISTRY, "--route", "internal"),
    ("-m", "smoke"),
    (f"{E2E}/test_traces.py", f"{E2E}/test_assessments.py", f"{E2E}/test_otlp.py"),
    tuple(f"{E2E}/test_{about}.py" for about in ("artifacts", "logged_models", "logged_model_artifacts", "model_registration")),
)
ONE_TEST = ("tests/e2e/test_experiments.py", "-k", "test_create_experiment", "--route", "internal", "--identity", "writer")
Against = Callable[..., SuiteRun]


@pytest.fixture(scope="module")
def stack() -> Iterator[ProcessStack]:
    """Return a stack with users' data in it."""
    stack = ProcessStack()
    try:
        target = stack.start()
        list(stack.until_ready())
        _fill(target)
        yield stack
    finally:
        stack.stop()


def _fill(target: Target) -> None:
    assert target.direct
    with signed_in(target.direct) as client:
        for name in ("fraud", SOMEBODYS):
            experiment = client.create_experiment(name, tags={"team": "fraud"})
            run_id = client.create_run(experiment, tags={"by": "a person"}).info.run_id
            client.log_batch(run_id, [Metric("loss", 0.5, 1, step) for step in range(10)])
            client.create_registered_model(name, tags={"stage": "live"}, description="scores payments")
            client.create_model_version(name, f"runs:/{run_id}/model", run_id, await_creation_for=0)
            client.set_registered_model_alias(name, "champion", "1")
        client.register_prompt("greeting", "Hello {{name}}")
        # The client links it to its experiment in the background.
        wait_until(lambda: PROMPTS_EXPERIMENTS in client.get_prompt("greeting").tags, RUN_SECONDS)


@pytest.fixture
def target(stack: ProcessStack) -> Target:
    """Return the stack's target, as its owner sees it."""
    assert stack.target
    return stack.target


@pytest.fixture
def database(stack: ProcessStack) -> Path:
    """Return MLflow's database."""
    return file_of(stack)


@pytest.fixture
def against(start_run: StartRun, target: Target, tmp_path: Path) -> Against:
    """Return a function that starts a run against the stack, with nothing but a profile."""

    def start(
        *arguments: str, limits: Mapping[str, int] = LIMITS, only: str | None = None, routes: tuple[Route, ...] = ()
    ) -> SuiteRun:
        file = tmp_path / "live.toml"
        keys = write_profile(replace(target, routes=routes or target.routes), file, limits=limits, only=only)
        return start_run(f"--target={file}", *arguments, XDG_STATE_HOME=str(tmp_path / "state"), **keys)

    return start


def journals(folder: Path) -> list[Path]:
    """Return the remaining journals."""
    return list(folder.glob("state/*/*/*.jsonl"))


def test_with_nothing_but_a_profile(against: Against, database: Path, tmp_path: Path) -> None:
    """The tests that pass on the lab's own stack pass there, too, and leave it unchanged."""
    before = content(database)

    run = against("tests/e2e/test_experiments.py", "tests/e2e/test_across_routes.py", "-n", "2")

    assert run.wait() == 0, run.output
    assert "external ready after" in run.output
    assert set(run.outcomes().values()) == {"passed"}
    assert changes(database, before) == UNCHANGED
    assert of_runs(database) == []
    assert journals(tmp_path) == []


def test_who_may_only_read(against: Against, database: Path) -> None:
    """With a read-only key, reads are tested, and nothing is written, not even for a moment."""
    before = content(database)

    run = against("tests/e2e/test_gateway.py", "tests/e2e/test_experiments.py", "--route", "internal", only="reader")

    assert run.wait() == 0, run.output
    assert Counter(run.outcomes().values())["passed"] > 0
    assert "no identity of the target may write: the run reads only" in run.output
    assert content(database) == before


def test_smoke(against: Against, target: Target, database: Path, tmp_path: Path) -> None:
    """Allowed identities can do everything that smoke tests, on every route, and others are refused; the time is reported."""
    before, report = content(database), tmp_path / "report.json"

    run = against("-m", "smoke", "-n", "2", f"--report-json={report}")

    assert run.wait() == 0, run.output
    cells = json.loads(report.read_text())["cells"]
    assert {(cell["id"], cell["outcome"]) for cell in cells} == {
        (f"{route}/{who}/{what}", "passed") for route in target.routes for who in target.identities for what in _in_smoke(who)
    }
    assert re.search(r"^live: passed\. .* in \d+\.\d s: \d+ passed$", run.output, re.MULTILINE)
    assert changes(database, before) == UNCHANGED


@pytest.mark.nightly
def test_everything(against: Against, database: Path, tmp_path: Path) -> None:
    """All tests pass there, and leave it unchanged."""
    before = content(database)

    run = against("-n", "2")

    assert run.process.wait(ALL_TESTS_SECONDS) == 0, run.output
    assert changes(database, before) == UNCHANGED
    assert of_runs(database) == []
    assert journals(tmp_path) == []


@pytest.mark.nightly
def test_everything_by_who_may_only_read(against: Against, database: Path) -> None:
    """No test writes anything with a read-only key."""
    before = content(database)

    run = against("-n", "2", only="reader")

    assert run.process.wait(ALL_TESTS_SECONDS) == 0, run.output
    assert content(database) == before


@pytest.mark.parametrize(
    "moment", [*range(FOR_EVERY_CHANGE), *(pytest.param(n, marks=pytest.mark.nightly) for n in range(FOR_EVERY_CHANGE, MOMENTS))]
)
def test_after_kill(against: Against, moment: int, database: Path, tmp_path: Path) -> None:
    """Whenever a run is killed, a sweep or the next run removes what is left of it, and everything else is unchanged."""
    before = content(database)
    run = against(*KILLED[moment % len(KILLED)], "-n", "2")
    _wait_until_it_creates(run, tmp_path)
    wait_until(lambda: _is_over(run), random.Random(moment).uniform(0, SECONDS_TO_LIVE))

    os.killpg(run.process.pid, signal.SIGKILL)
    run.process.wait()
    wait_until(lambda: not run.processes(), RUN_SECONDS)  # its workers end by themselves
    following = against(*(("--sweep",) if (moment + moment // len(KILLED)) % 2 else ONE_TEST))

    assert following.wait() == 0, following.output
    assert of_runs(database) == []
    assert journals(tmp_path) == []
    assert changes(database, before) == UNCHANGED


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_after_an_interruption(end: signal.Signals, against: Against, database: Path, tmp_path: Path) -> None:
    """A run that a user interrupts, or whose CI job is cancelled, removes what it has created before it ends."""
    before = content(database)
    run = against(*REGISTRY, "-n", "2", "--route", "internal")
    _wait_until_it_creates(run, tmp_path)

    os.killpg(run.process.pid, end)

    assert run.wait() == pytest.ExitCode.INTERRUPTED, run.output
    assert of_runs(database) == []
    assert journals(tmp_path) == []
    assert changes(database, before) == UNCHANGED


def test_sweep_of_what_has_no_journal_here(against: Against, target: Target, database: Path) -> None:
    """A sweep removes leftovers of other machines' runs that are older than any run, and leaves what may be in use."""
    before = content(database)
    old = f"{PREFIX}-20000101-000000-0a1b2c3d-4e5f60-1"
    in_use = f"{Run.begin().new_names()}-1"
    assert target.direct
    with signed_in(target.direct) as client:
        for name in (old, in_use):
            client.create_experiment(name)
            client.create_registered_model(name)

        run = against("--sweep")

        assert run.wait() == 0, run.output
        assert run.output.splitlines()[-3:] == [f"removed model {old}", f"removed experiment {old}", "2 removed, 0 not"]
        assert of_runs(database) == [f"experiment {in_use}", f"model {in_use}"]
        remove(client, "experiment", in_use)
        remove(client, "model", in_use)
    assert changes(database, before) == UNCHANGED


def test_limit_of_requests(against: Against, database: Path) -> None:
    """A run that would send more than its profile allows ends with an exit code of its own, and removes what it has created."""
    run = against("tests/e2e/test_experiments.py", "--route", "internal", limits={"requests": 25})

    assert run.wait() == RequestLimitError.exit_code, run.output
    assert "The run would send more than the 25 requests that its profile allows." in run.output
    assert of_runs(database) == []


def test_a_profile_to_begin_with(target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The profile made by asking the target can be used as it is, and contains no key."""
    platform, route = target.identity("platform"), target.route("external")
    assert platform.key

    written = profile(route, look(route, platform.key), platform.variable)

    file = tmp_path / "begun.toml"
    file.write_text(written)
    monkeypatch.setenv(platform.variable, platform.key.reveal())
    begun = load(file)
    assert platform.key.reveal() not in written
    assert (begun.carriers, begun.contract) == (target.carriers, target.contract)
    assert begun.identity("platform").scopes == platform.scopes
    assert begun.capabilities == set(SHOWN_BY)


def test_a_key_that_opens_nothing(target: Target) -> None:
    """A refused key makes no profile: the message says how it was refused, and does not show it."""
    revoked = target.identity("revoked")
    assert revoked.key

    with pytest.raises(BadOptionError, match="a search for experiments was answered 401") as raised:
        look(target.route("internal"), revoked.key)

    assert revoked.key.reveal() not in str(raised.value)


def test_a_route_on_which_nobody_answers(against: Against, target: Target) -> None:
    """All tests on such a route fail soon, and say why. Tests on other routes pass."""
    silent = Server(hangs)
    external = Route("external", f"http://127.0.0.1:{silent.port}")

    run = against("-m", "smoke", routes=(external, target.route("internal")))

    assert ends(run) == pytest.ExitCode.TESTS_FAILED, run.output
    why = f"The route 'external' to {external.url} cannot be used: there is no answer within 5 s."
    checks = json.loads(run.result.read_text())["checks"]
    assert {(check["route"], check["outcome"]) for check in checks} == {("external", "error"), ("internal", "passed")}
    assert {check["message"] for check in checks if check["route"] == "external"} == {f"Failed: {why}"}
    (finding,) = run.verdict["findings"]
    assert (finding["hops"], finding["causes"]) == (["edge"], ["edge-connect-timeout", "edge-upstream-silent"])
    silent.close()


def test_a_target_that_falls_silent(against: Against, tmp_path: Path) -> None:
    """After several calls without an answer, the rest is not waited for."""
    turns = itertools.chain([says(json_answer("200 OK", "{}"))], itertools.repeat(hangs))
    silent, report = Server(lambda connection, request: next(turns)(connection, request)), tmp_path / "report.json"

    run = against("-m", "smoke", f"--report-json={report}", routes=(Route("external", f"http://127.0.0.1:{silent.port}"),))

    assert ends(run) == pytest.ExitCode.TESTS_FAILED, run.output
    why = f"Failed: gave up on http://127.0.0.1:{silent.port}: 3 calls in a row had no answer within 5 s"
    checks = json.loads(report.read_text())["checks"]
    assert {check["outcome"] for check in checks} == {"failed", "error"}
    assert [check["message"] == why for check in checks].count(False) == CALLS
    silent.close()


def _in_smoke(who: Identity) -> set[str]:
    if not who.may("read"):
        return {"denied-read"}
    return {"experiments", "runs", "search", "artifacts", "models", "traces", *(() if who.may("write") else ("denied-write",))}


def _wait_until_it_creates(run: SuiteRun, folder: Path) -> None:
    wait_until(lambda: _is_over(run) or any(file.stat().st_size for file in journals(folder)), RUN_SECONDS)
    assert not _is_over(run), run.output


def _is_over(run: SuiteRun) -> bool:
    return run.process.poll() is not None
