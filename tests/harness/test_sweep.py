"""What is removed from a deployed target, and what is not: invalid journals are not believed, and no error shows a key."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from fixtures.profiles import write_profile
from mlflow_proxy_e2e import diagnosis
from mlflow_proxy_e2e.deployed import DeployedStack
from mlflow_proxy_e2e.errors import BadOptionError, RequestLimitError, SweepError
from mlflow_proxy_e2e.facts.facts import Facts
from mlflow_proxy_e2e.facts.sandbox import sandbox
from mlflow_proxy_e2e.plugin.failures import judge
from mlflow_proxy_e2e.run import Run, left_of, state_folder
from mlflow_proxy_e2e.sweep import sweep_dead_runs
from mlflow_proxy_e2e.target import Identity, Route, Secret, Target
from tests.harness.conftest import ROOT, StartRun
from tests.harness.servers import Behaviour, Server, answer, json_answer, says
from tests.harness.test_hostile_targets import KEY, echoes

EMPTY = json_answer("200 OK", "{}")
CREATED = json_answer("200 OK", '{"experiment_id": "7"}')
REFUSED = json_answer("503 Service Unavailable", "{}")
DELETE = "/experiments/delete "
NO_ENTRIES = ["123", "null", "[[1, 2]]", '{"kind": "model"}', '{"kind": {}, "name": []}', '{"kind": "mod', "\x00\udcff"]
PLUGIN = """
import os

def pytest_collection_finish():
    raise RuntimeError(f"no way with {os.environ['E2E_KEY_PLATFORM']}")
"""

Theirs = Callable[..., Target]


class Recording:
    """A behaviour that records the first line of every request."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.requests: list[str] = []
        self._behaviour = behaviour

    def __call__(self, connection: object, request: bytes) -> None:
        self.requests.append(request.partition(b"\r\n")[0].decode())
        self._behaviour(connection, request)  # type: ignore[arg-type]


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Theirs]:
    """Return a function that starts a server and returns it as a target. Journals are in the test's own folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    servers: list[Server] = []

    def start(behaviour: Behaviour, *scopes: str) -> Target:
        servers.append(Server(behaviour))
        who = Identity("platform", frozenset(scopes or ("read", "write")), key=Secret(KEY))  # type: ignore[arg-type]
        return Target("theirs", (Route("external", f"http://127.0.0.1:{servers[-1].port}"),), (who,), frozenset(), ("bearer",))

    yield start
    for server in servers:
        server.close()


def write_journal(target: Target, *lines: str, stem: str | None = None) -> Path:
    """Write the journal of a run that is over."""
    journal = state_folder(target) / f"{stem or Run.begin().mark}.jsonl"
    journal.parent.mkdir(parents=True, exist_ok=True)
    journal.write_text("".join(f"{line}\n" for line in lines))
    return journal


def creation(name: str, kind: str = "model") -> str:
    """Return the journal's line about something that is about to be created."""
    return json.dumps({"kind": kind, "name": name})


def test_a_file_that_no_run_has_written(theirs: Theirs) -> None:
    """A file without a run's name is no journal: nothing that it lists is removed, nothing is asked, and it stays."""
    asked = Recording(says(EMPTY))
    target = theirs(asked)
    file = write_journal(target, creation("prod-1"), stem="prod")

    swept = sweep_dead_runs(target)

    assert (swept.removed, swept.failed, asked.requests) == ([], [], [])
    assert file.exists()


def test_names_that_the_run_has_not_given(theirs: Theirs) -> None:
    """Names in a run's journal that do not begin with the run's mark are not removed."""
    asked = Recording(says(EMPTY))
    target = theirs(asked)
    journal = write_journal(target, creation("prod-1"), creation(f"{Run.begin().mark}-0a1b2c-1"))

    swept = sweep_dead_runs(target)

    assert (swept.removed, swept.failed, asked.requests) == ([], [], [])
    assert not journal.exists()


@pytest.mark.parametrize("line", NO_ENTRIES)
def test_lines_that_say_nothing(line: str, tmp_path: Path) -> None:
    """Whatever else is in a journal, its valid lines count."""
    mark = Run.begin().mark
    journal = tmp_path / f"{mark}.jsonl"
    said = f"{creation(f'{mark}-0a1b2c-1')}\n{line}\n{creation(f'{mark}-0a1b2c-2', 'experiment')}\n"
    journal.write_bytes(said.encode(errors="surrogateescape"))

    assert left_of(journal) == {"model", "experiment"}


def test_sweep_where_no_key_may_write(theirs: Theirs) -> None:
    """A read-only key removes nothing, whatever else can be reached."""
    asked = Recording(says(EMPTY))

    with pytest.raises(BadOptionError, match="--sweep needs an identity that is allowed to write"):
        DeployedStack(theirs(asked, "read")).sweep()

    assert asked.requests == []


@pytest.mark.parametrize("arguments", [["--sweep"], ["-m", "smoke", "-k", "test_search_experiments"]], ids=["sweep", "next-run"])
def test_errors_that_show_keys(arguments: list[str], theirs: Theirs, start_run: StartRun, tmp_path: Path) -> None:
    """An error about something that could not be removed does not show the key in the answer."""
    target, file = theirs(echoes), tmp_path / "theirs.toml"
    mark = Run.begin().mark
    write_journal(target, creation(f"{mark}-0a1b2c-1"), stem=mark)

    run = start_run(f"--target={file}", *arguments, XDG_STATE_HOME=str(tmp_path / "state"), **write_profile(target, file))

    assert run.wait() == (SweepError.exit_code if "--sweep" in arguments else pytest.ExitCode.TESTS_FAILED), run.output
    assert f"not removed: model {mark}-*: RestException: BAD_REQUEST: [key]" in run.output
    assert KEY not in run.output


def test_a_diagnosis_that_fails(theirs: Theirs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does an error of the diagnosis itself."""
    failed = pytest.TestReport("test", ("", 0, ""), {}, "failed", None, "call")
    lines: list[str] = []
    monkeypatch.setattr(diagnosis, "diagnose", Mock(side_effect=RuntimeError(f"no way with {KEY}")))

    judged = judge(Mock(stats={"failed": [failed]}, write_line=lines.append), theirs(says(EMPTY)), is_full=True)

    assert judged == (None, {}, ())
    assert lines == ["The diagnosis itself has failed, which says nothing about the target: RuntimeError('no way with [key]')"]


@pytest.mark.parametrize("workers", ["0", "1"])
def test_internal_error(workers: str, theirs: Theirs, start_run: StartRun, tmp_path: Path) -> None:
    """Nor does an internal error of pytest or of a plugin, wherever it is raised."""
    target, file = theirs(says(EMPTY)), tmp_path / "theirs.toml"
    (tmp_path / "careless.py").write_text(PLUGIN)
    options = (f"--target={file}", "-p", "careless", "-n", workers, "-m", "smoke")

    run = start_run(*options, PYTHONPATH=str(tmp_path), XDG_STATE_HOME=str(tmp_path / "state"), **write_profile(target, file))

    assert run.wait() == pytest.ExitCode.INTERNAL_ERROR, run.output
    assert "RuntimeError: no way with [key]" in run.output
    assert KEY not in run.output


@pytest.mark.parametrize("outcome", [says(REFUSED), says(answer("200 OK")[:20])], ids=["refused", "broken-off"])
def test_sandbox_that_cannot_be_removed(outcome: Behaviour, theirs: Theirs) -> None:
    """What a diagnosis creates and cannot remove is in a journal, so that a sweep can."""
    target = theirs(lambda connection, request: (outcome if DELETE.encode() in request else says(CREATED))(connection, request))

    facts = Facts(target)
    own = sandbox(facts)
    facts.close()

    assert own
    assert own.experiment_id == "7"
    (journal,) = state_folder(target).iterdir()
    assert left_of(journal) == {"experiment"}


def test_sandbox_that_is_removed(theirs: Theirs) -> None:
    """A diagnosis that has removed everything leaves no journal."""
    target = theirs(says(CREATED))

    facts = Facts(target)
    own = sandbox(facts)
    facts.close()

    assert own
    assert own.experiment_id == "7"
    assert list(state_folder(target).iterdir()) == []


def test_limits_of_a_diagnosis(theirs: Theirs, tmp_path: Path) -> None:
    """A diagnosis that would send more than its profile allows says so, and does not send it."""
    asked = Recording(says(EMPTY))
    file = tmp_path / "theirs.toml"
    target = replace(theirs(asked, "read"), capabilities=frozenset({"scopes"}))  # without writing, nothing has to be removed
    keys = write_profile(target, file, limits={"requests": 1})

    command = [sys.executable, "-m", "mlflow_proxy_e2e", "check", f"--target={file}"]
    ended = subprocess.run(command, cwd=ROOT, env=os.environ | keys, capture_output=True, text=True, check=False)

    assert ended.returncode == RequestLimitError.exit_code, ended.stderr
    assert ended.stderr.startswith("The run would send more than the 1 requests that its profile allows.")
    assert len(asked.requests) == 1
