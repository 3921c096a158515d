"""What people and tools read in a result, and what they must never read in it."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from mlflow_proxy_e2e.diagnosis.verdict import Finding, Unexplained, Verdict
from mlflow_proxy_e2e.errors import BadOptionError, BadProfileError, ReportError, SuiteError, UnreachableError
from mlflow_proxy_e2e.redaction import without
from mlflow_proxy_e2e.report import emf, github, history, page, prometheus
from mlflow_proxy_e2e.report.matrix import Matrix
from mlflow_proxy_e2e.report.outputs import Outputs
from mlflow_proxy_e2e.report.recorder import Recorder
from mlflow_proxy_e2e.report.result import REACHABLE, Check, Outcome, Result, Trouble, reachable, subject_of
from mlflow_proxy_e2e.report.summary import counted, in_a_line, parts_that_fit
from mlflow_proxy_e2e.severity import Severity
from mlflow_proxy_e2e.target import Identity, Route, Secret, Target
from tests.harness.conftest import ROOT, Run, StartRun
from tests.harness.given import VARIABLE

SCHEMA = json.loads((ROOT / "docs" / "report.schema.json").read_text())
BEGAN = datetime(2026, 1, 31, 23, 59, 58, tzinfo=timezone.utc)
AWKWARD = "+/=&<>\"'%41\\:#"  # characters of a key that are escaped differently in URLs, JSON, XML and Markdown
FINDING = Finding(
    ("proxy",),
    ("port-refused",),
    "down",
    ("the proxy asks the wrong port",),
    ("correct the port",),
    ("502 at once",),
    ("test_runs",),
)
VERDICT = Verdict((FINDING,), (Unexplained(("test_models",), ("mlflow",), ("came      500",)),), ("tls-chain",))


def check(
    capability: str,
    outcome: Outcome = "passed",
    *,
    route: str | None = "external",
    identity: str | None = "writer",
    message: str = "",
    severity: Severity = "down",
) -> Check:
    """Return a check of its own cell."""
    name, bad = f"test_{capability}[{route}-{identity}]", outcome in ("failed", "error", "accepted")
    return Check(name, route, identity, capability, outcome, 0.25, message, severity if bad else None)


def result(*checks: Check, run: int = 0, **fields: Any) -> Result:
    """Return the result of the n-th of several runs."""
    given = {"exit_code": int(any(check.outcome == "failed" for check in checks)), "target": "staging", **fields}
    return Result(
        routes=("external", "internal"),
        started=BEGAN + timedelta(hours=run),
        seconds=8.5,
        suite="0.1.0",
        mlflow="3.17.2",
        checks=checks,
        **given,
    )


FAILED = result(
    check("runs", "failed", message='said "no"\nto \\ all\r\n100%'),
    check("runs", "passed", identity="reader"),
    check("search", "skipped", message="not promised"),
    check("gateway", "error", route=None, identity=None),
    verdict=VERDICT,
    errors=(Trouble("tests/e2e/test_runs.py", "NameError: x"),),
    left_behind=("e2e-1",),
)


@pytest.mark.parametrize("of", [FAILED, result()], ids=["failed", "empty"])
def test_json_is_as_published(of: Result) -> None:
    """The JSON result conforms to the schema, which allows for unknown values."""
    data = json.loads(json.dumps(of.to_data()))

    assert [str(error) for error in jsonschema_rs.validator_for(SCHEMA).iter_errors(data)] == []
    assert set(data) == set(SCHEMA["required"])


def test_cells_have_the_worst_outcome_of_their_checks() -> None:
    """One failed check makes a cell fail, and a cell has the same name in every run."""
    cells = result(check("runs"), check("runs", "failed"), check("runs", "skipped")).cells

    assert [(cell.id, cell.outcome, len(cell.checks)) for cell in cells] == [("external/writer/runs", "failed", 3)]


class Markup(HTMLParser):
    """What is wrong with a page, and its text."""

    EMPTY = ("meta", "line", "rect", "br")  # elements without an end

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.problems: list[str] = []
        self.is_linked_to: set[str | None] = set()
        self.ids: list[str | None] = []
        self._open: list[str] = []
        self.feed(text)
        self.problems += [f"<{tag}> is not closed" for tag in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        given = dict(attrs)
        self.ids += [given["id"]] if "id" in given else []
        self.is_linked_to |= {(given["href"] or "").removeprefix("#")} if "href" in given else set()
        self.problems += [f"<{tag}> loads or runs something"] if tag in ("script", "link", "img", "iframe") else []
        self._open += [tag] if tag not in self.EMPTY else []

    def handle_endtag(self, tag: str) -> None:
        """Note the end of an element."""
        if tag not in self.EMPTY and (not self._open or self._open.pop() != tag):
            self.problems.append(f"</{tag}> closes another element")

    def handle_data(self, data: str) -> None:
        """Note text."""
        self.texts.append(data.strip())


def test_page_says_what_is_wrong() -> None:
    """The page has the verdict, and each failure under its cell in the matrix, whatever characters its message has."""
    shown = Markup(page.render(FAILED, [("2026-01-31 22:59", "passed")]))

    assert shown.problems == []
    assert shown.is_linked_to <= set(shown.ids)
    assert len(shown.ids) == len(set(shown.ids))
    text = "\n".join(shown.texts)
    for said in ("port-refused", "the proxy asks the wrong port", "502 at once", 'said "no"\nto \\ all', "NameError: x", "e2e-1"):
        assert said in text.replace("\r", "")
    assert "external/writer/runs" in text
    assert "2026-01-31 22:59" in text


def test_page_stays_small() -> None:
    """The page of a run in which thousands of tests fail opens at once."""
    broken = [
        check(f"capability-{number % 70}", "failed", message="x" * 5000, identity=f"id-{number // 70}") for number in range(2200)
    ]

    assert len(page.render(result(*broken))) < 1 << 20


def test_matrix_has_those_in_one_row_that_fare_alike() -> None:
    """Identities and routes with the same outcomes share a row."""
    everybody = [
        check(capability, route=route, identity=identity)
        for route in ("external", "internal")
        for identity in ("platform", "writer")
        for capability in ("runs", "search")
    ]

    matrix = Matrix.of(result(*everybody, check("search", "failed", identity="reader")))

    assert [row.texts for row in matrix.rows] == [
        ("external, internal", "platform, writer", "ok", "ok"),
        ("external", "reader", "", "FAILED"),
    ]


def test_matrix_of_many_capabilities_has_those_that_fail() -> None:
    """A matrix that is too wide shows only capabilities with failures."""
    many = [check(f"capability-{number}") for number in range(30)]

    assert Matrix.of(result(*many)).rows == ()
    assert Matrix.of(result(*many, check("runs", "failed"))).capabilities == ("runs",)


def test_wide_matrix_is_written_in_parts() -> None:
    """A matrix that is wider than a screen is written in parts, each with as many columns as fit, and each column once."""
    parts = parts_that_fit([8, 30, *[20] * 7, 200])

    assert parts == [range(2, 5), range(5, 8), range(8, 9), range(9, 10)]


def test_failure_in_one_line() -> None:
    """A failure is listed with what was sent, what came and what was expected, or else with the first line of its message."""
    described = "AssertionError: sent      GET /x as reader\ncame      500\nexpected  200\nagain     curl …"

    assert in_a_line(described) == "GET /x as reader: 500, expected 200"
    assert in_a_line("RestException: no such run\nsent GET /x") == "RestException: no such run"


def test_prometheus() -> None:
    """Every sample is in the text format, skipped cells have none, and each route says whether it works."""
    text = prometheus.render(result(check("runs", "failed"), check("runs", identity='"odd"\n\\'), check("search", "skipped")))

    samples = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(
        re.fullmatch(r'[a-z0-9_]+\{[a-z]+="([^"\\]|\\[n"\\])*"(,[a-z]+="([^"\\]|\\[n"\\])*")*\} [0-9.]+', s) for s in samples
    )
    where = 'target="staging",route="external"'
    assert f'mlflow_e2e_check_success{{{where},identity="writer",capability="runs"}} 0' in samples
    assert f'mlflow_e2e_check_success{{{where},identity="\\"odd\\"\\n\\\\",capability="runs"}} 1' in samples
    assert f"mlflow_e2e_up{{{where}}} 1" in samples
    assert 'mlflow_e2e_up{target="staging",route="internal"} 0' in samples
    assert 'capability="search"' not in text
    assert f'mlflow_e2e_last_run_timestamp_seconds{{target="staging"}} {BEGAN.timestamp() + 8.5}' in samples


def test_emf() -> None:
    """Each route has a line, whose metrics are declared and are numbers, and whose dimensions exist."""
    lines = [json.loads(line) for line in emf.render(FAILED).splitlines()]

    assert [(line["Route"], line["Up"], line["Failed"], line["FailedCells"]) for line in lines] == [
        ("external", 1, 1, ["writer/runs"]),
        ("internal", 0, 0, []),
        ("any", 0, 1, ["any/gateway"]),
    ]
    for line in lines:
        (directive,) = line["_aws"]["CloudWatchMetrics"]
        assert all(isinstance(line[metric["Name"]], int | float) for metric in directive["Metrics"])
        assert all(line[name] for name in directive["Dimensions"][0])


def test_github_annotations_are_one_line_each_and_few() -> None:
    """Text from a target cannot end a command and begin another, and GitHub gets no more commands than it shows."""
    commands = list(github.commands(FAILED))

    assert [command.partition("::error title=")[2].partition("::")[0] for command in commands] == [
        "staging%3A the suite itself failed",
        "staging%3A proxy (down)",
        "staging%3A any/any/gateway (down)",
        "staging%3A external/writer/runs (down)",
    ]
    assert commands[-1].endswith('::said "no"%0Ato \\ all%0D%0A100%25')
    assert len(list(github.commands(result(*(check(f"c{n}", "failed") for n in range(99)))))) == github.ANNOTATIONS


def test_github_is_warned_of_what_does_not_fail_a_run() -> None:
    """The worst comes first; a severity that ``--fail-on`` does not name is a warning."""
    bad = check("runs", "failed", severity="hardening"), check("denials", "failed", severity="open")

    commands = list(github.commands(result(*bad, fail_on=("open", "loss"))))

    assert [command.partition(" title=")[0] for command in commands] == ["::error", "::warning"]


def test_failures_by_severity() -> None:
    """A cell has the severity of its worst failure, and the worst cell comes first."""
    of = result(
        check("runs", "failed", severity="hardening"),
        check("runs", "failed", severity="contract"),
        check("traces", "failed", severity="open"),
        check("ui", "accepted", severity="loss"),
    )

    assert [(cell.capability, cell.severity) for cell in of.bad] == [("traces", "open"), ("runs", "contract")]
    assert of.severities == {"open": 1, "loss": 0, "down": 0, "contract": 1, "hardening": 1}
    assert 'mlflow_e2e_failures{target="staging",severity="open"} 1' in prometheus.render(of)
    assert counted(of).endswith("3 failed, 1 accepted; failures by severity: 1 open, 1 contract, 1 hardening")


def test_github_summary_shows_what_a_target_says_as_it_is() -> None:
    """Text from a target is never taken for Markdown or HTML."""
    text = github.step_summary(result(check("runs", "failed", message="<b>|`*_[x](y)")))

    assert r"external/writer/runs: \<b\>\|\`\*\_\[x\](y)" in text


def told(folder: Path, *of: Result) -> list[str]:
    """Keep some results, one after another, and return the changes reported for the last."""
    for one in of:
        lines = list(history.changes(folder, one))
        history.file(folder, one).write_text(json.dumps(one.to_data()))
    return lines


def test_history(tmp_path: Path) -> None:
    """Differences from the previous run are reported, and a check that has changed both ways is called flaky."""
    good, bad = check("runs"), check("runs", "failed")
    name = good.id
    assert told(tmp_path, result(good, run=0), result(good, run=1)) == []
    assert told(tmp_path, result(bad, run=2)) == [f"newly broken: {name}"]
    assert told(tmp_path, result(bad, run=3)) == []
    assert told(tmp_path, result(good, run=4)) == [f"flaky within the last 10 runs: {name}"]
    assert told(tmp_path, *(result(good, run=5 + n) for n in range(history.RUNS))) == []
    (tmp_path / f"staging.20990101T000000000000Z{history.SUFFIX}").write_text("{")  # half a file
    assert told(tmp_path, result(bad, run=20), result(bad, run=21, target="staging.eu")) == []


def test_history_of_a_target_that_goes_down_and_comes_back(tmp_path: Path) -> None:
    """An unreachable route is news after a run in which something worked through it, and fixed with the next such run."""
    up, down = check("runs"), Check(reachable("external"), "external", None, REACHABLE, "failed", 0.0, "no", "down")

    assert told(tmp_path, result(up, run=0)) == []
    assert told(tmp_path, result(down, run=1)) == ["newly broken: reachable[external]"]
    assert told(tmp_path, *(result(down, run=2 + n) for n in range(history.RUNS))) == []
    assert told(tmp_path, result(up, run=20)) == ["fixed: reachable[external]"]


def test_history_tells_what_is_fixed_and_forgets_what_is_old(tmp_path: Path) -> None:
    """A check that failed from the beginning and passes now is fixed; the oldest results make room."""
    for run in range(history.KEPT + 5):
        file = history.file(tmp_path, result(run=run))
        file.write_text(json.dumps(result(check("runs", "failed"), run=run).to_data()))

    assert list(history.changes(tmp_path, result(check("runs"), run=200))) == [f"fixed: {check('runs').id}"]
    assert len(list(tmp_path.iterdir())) == history.KEPT


def test_files_are_replaced_as_a_whole(tmp_path: Path) -> None:
    """Results replace earlier ones, can be read by collectors, and leave no other files; a log grows."""
    outputs = Outputs(json=tmp_path / "r.json", prometheus=tmp_path / "r.prom", emf=tmp_path / "log", history=tmp_path)

    for run in range(2):
        outputs.write(result(check("runs"), run=run), print)

    assert json.loads((tmp_path / "r.json").read_text())["started"].startswith("2026-02-01T00:59:58")
    assert (tmp_path / "r.prom").stat().st_mode & 0o777 == 0o644
    assert len((tmp_path / "log").read_text().splitlines()) == 4
    assert {file.suffix for file in tmp_path.iterdir()} == {".json", ".prom", ""}


@pytest.mark.parametrize("option", ["--report-json", "--report-prometheus", "--report-emf", "--history"])
def test_folder_that_is_missing(option: str, tmp_path: Path) -> None:
    """Missing folders are created: no schedule has to do that first."""
    folder = tmp_path / "reports" / "staging"
    outputs = asked_for(f"{option}={folder / 'r.prom'}")

    outputs.write(result(check("runs")), print)

    assert [path.name for path in folder.iterdir()] == ["r.prom"]


def test_metrics_that_nobody_collects() -> None:
    """A name that node_exporter would ignore is refused before anybody misses the metrics."""
    with pytest.raises(BadOptionError, match=r"the name must end with \.prom,"):
        asked_for("--report-prometheus=metrics.txt")


def asked_for(*arguments: str) -> Outputs:
    """Return the requested outputs for a command line, outside GitHub."""
    return Outputs.asked_for(pytest.Config.fromdictargs({}, list(arguments)), {})


def test_error_of_the_suite_says_nothing_of_the_target() -> None:
    """If the suite itself cannot continue, no cell has failed."""
    recorder = Recorder(Target("staging", (Route("external", "http://x"),), (), frozenset()))
    recorder.note(SuiteError("no room"))

    of = recorder.result(SuiteError.exit_code, routes=["external"], mlflow=None, left_behind=[])

    assert (of.outcome, of.checks, of.errors) == ("error", (), (Trouble("SuiteError", "no room"),))


def test_subject_of_a_file() -> None:
    """A test counts under the subject of its file."""
    assert subject_of("tests/e2e/test_logged_models.py") == "logged-models"


@pytest.mark.parametrize("write", [str, json.dumps, repr, ascii], ids=lambda write: write.__name__)
def test_key_is_found_however_it_is_written(write: Any) -> None:
    """A key is redacted however a library has escaped it."""
    assert "canary" not in without([Secret(f"canary{AWKWARD}")], f"-- {write(f'canary{AWKWARD}')} --")


def test_part_of_a_key_is_found() -> None:
    """A truncated key is redacted, and the text around it stays."""
    keys = [Secret("hk_test_0123456789abcdef"), Secret("short"), Secret("")]

    assert without(keys, "'Bearer hk_test_01234567...'") == "'Bearer [key]...'"
    assert without(keys, "...9abcdef, 456789abcdef, short; hk_test_0123456789abcdefhk_test_0123456789abcdef") == (
        "...9abcdef, [key], [key]; [key]"
    )


class Echo(BaseHTTPRequestHandler):
    """Refuses everything, and repeats the key in all places."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        """Answer."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        key = self.headers.get("Authorization", "")
        body = json.dumps({"error_code": "INTERNAL_ERROR", "message": f"what is {key}?"}).encode()
        self.send_response(500)
        for name, value in (("X-Key", key), ("Content-Type", "application/json"), ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer  # noqa: N815

    def do_HEAD(self) -> None:
        """Answer without a body, and with no more to come."""
        self.send_response(500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def echo() -> Iterator[str]:
    """Return the URL of a target that reveals every key."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def canaries() -> Mapping[str, str]:
    """Return the texts that no output may contain, by the identity of the key."""
    return {name: uuid.uuid4().hex for name in ("writer", "reader", "revoked")}


@pytest.fixture
def given(echo: str, canaries: Mapping[str, str], tmp_path: Path) -> Path:
    """Return the file with a target that reveals every key."""
    keys = {name: Secret(f"hk_{canary}{AWKWARD}{canary}") for name, canary in canaries.items()}
    target = Target(
        name="staging",
        routes=(Route("external", echo),),
        identities=(
            Identity("writer", frozenset({"read", "write"}), key=keys["writer"]),
            Identity("reader", frozenset({"read"}), key=keys["reader"]),
            Identity("revoked", refused="unauthenticated", key=keys["revoked"]),
        ),
        capabilities=frozenset({"scopes", "artifacts", "registry", "traces"}),
    )
    file = tmp_path / "target.json"
    file.touch(0o600)
    file.write_text(json.dumps(target.to_data()))
    return file


def smoke(start_run: StartRun, given: Path, *arguments: str, **environment: str) -> Run:
    """Start smoke tests against that target."""
    return start_run("-p", "tests.harness.given", "-m", "smoke", *arguments, **{VARIABLE: str(given)}, **environment)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_no_output_has_a_key_in_it(
    workers: str, start_run: StartRun, given: Path, canaries: Mapping[str, str], tmp_path: Path
) -> None:
    """Whatever a target reveals of keys, no part of one is printed or written to any output."""
    out = tmp_path / "out"
    run = smoke(
        start_run,
        given,
        *("-n", workers, "-vv", "--showlocals", "--tb=long", f"--history={out / 'history'}"),
        *(f"--report-html={out / 'r.html'}", f"--report-json={out / 'r.json'}"),
        *(f"--report-prometheus={out / 'r.prom'}", f"--report-emf={out / 'r.log'}"),
        GITHUB_ACTIONS="true",
        GITHUB_STEP_SUMMARY=str(out / "summary.md"),
    )

    assert run.wait() == pytest.ExitCode.TESTS_FAILED, run.output
    written = {file: file.read_text() for file in (run.junit, run.output_file, *out.rglob("*")) if file.is_file()}
    assert len(written) == 8
    for file, text in written.items():
        assert text
        assert not any(part in text for canary in canaries.values() for part in (canary[:16], canary[16:])), file.name
    assert "[key]" in run.output
    assert "::error title=staging%3A " in run.output
    data = json.loads(written[out / "r.json"])
    assert [str(error) for error in jsonschema_rs.validator_for(SCHEMA).iter_errors(data)] == []
    assert {cell["outcome"] for cell in data["cells"]} <= {"failed", "error"}
    properties = set(re.findall(r'<property name="(\w+)" value="([\w-]+)"', written[run.junit]))
    assert {("route", "external"), ("identity", "reader"), ("capability", "denied-read"), ("severity", "open")} <= properties


@pytest.mark.parametrize(("reason", "ends"), [("ticket 123", 0), ("ticket 123; until 2020-01-01", BadProfileError.exit_code)])
def test_failures_that_are_accepted(reason: str, ends: int, start_run: StartRun, given: Path, tmp_path: Path) -> None:
    """A run whose failures are all accepted reports them as accepted and does not fail, unless an entry's date has passed."""
    entry = {"what": "tests/e2e/test_smoke.py::*", "reason": reason, "until": "2020-01-01" if ends else None}
    given.write_text(json.dumps({**json.loads(given.read_text()), "accepted": [entry]}))

    run = smoke(start_run, given, "-n", "2", f"--report-prometheus={tmp_path / 'r.prom'}")

    assert run.wait() == ends, run.output
    data = json.loads(run.result.read_text())
    assert [str(error) for error in jsonschema_rs.validator_for(SCHEMA).iter_errors(data)] == []
    assert {(check["outcome"], check["accepted"]) for check in data["checks"]} == {("accepted", reason)}
    assert set(run.outcomes().values()) == {"skipped"}
    assert "mlflow_e2e_check_success{" not in (tmp_path / "r.prom").read_text()
    assert ("it was accepted until 2020-01-01." in run.output) == bool(ends)
    assert " xfailed" in run.output


def test_failure_of_the_suite_is_not_the_targets(start_run: StartRun, given: Path, tmp_path: Path) -> None:
    """If all tests fail by the suite's own fault, the run ends as an error of the suite, which says nothing about the target."""
    (tmp_path / "mistaken.py").write_text("def pytest_runtest_setup():\n    raise NameError('mistaken')\n")

    run = smoke(start_run, given, "-p", "mistaken", f"--report-json={tmp_path / 'r.json'}", PYTHONPATH=str(tmp_path))

    assert run.wait() == SuiteError.exit_code, run.output
    assert "the suite itself failed: this says nothing about the target" in run.output
    data = json.loads((tmp_path / "r.json").read_text())
    assert (data["outcome"], data["checks"]) == ("error", [])
    assert {error["message"] for error in data["errors"]} == {"NameError: mistaken"}


def test_run_that_tests_nothing_is_no_success(start_run: StartRun, given: Path) -> None:
    """A run all of whose tests are skipped does not end as if something worked."""
    data = json.loads(given.read_text())
    given.write_text(json.dumps({**data, "capabilities": []}))

    run = smoke(start_run, given, "-k", "trace")

    assert run.wait() == pytest.ExitCode.NO_TESTS_COLLECTED, run.output
    assert "staging: empty. " in run.output


@pytest.mark.parametrize("option", ["--report-json", "--report-prometheus", "--report-emf", "--history"])
def test_file_that_cannot_be_written(option: str, start_run: StartRun, given: Path) -> None:
    """A location that nobody can write to, not even root, is reported before anything is sent."""
    place = os.path.join("/proc", "nobody", "writes.prom")  # noqa: PTH118

    run = smoke(start_run, given, f"{option}={place}")

    assert run.wait() == ReportError.exit_code, run.output
    assert f"{place} cannot be written: No such file or directory. Choose another place" in run.output
    assert "Traceback" not in run.output
    assert "collected" not in run.output


def test_target_that_nobody_reaches_has_failed(start_run: StartRun, tmp_path: Path) -> None:
    """If the target cannot be reached, that is the result: each route is down, and the suite has not failed."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        profile = tmp_path / "staging.toml"
        profile.write_text(
            f'name = "staging"\ncapabilities = []\ncarriers = ["bearer"]\n[routes.external]\nurl = "{url}"\n'
            '[identities.writer]\nkey = "env:E2E_KEY_WRITER"\nscopes = ["read", "write"]\n'
        )
        metrics, report = tmp_path / "r.prom", tmp_path / "r.json"
        outputs = (f"--report-prometheus={metrics}", f"--report-json={report}")
        run = start_run("-m", "smoke", f"--target={profile}", *outputs, E2E_KEY_WRITER="a-key-of-somebody")

        assert run.wait() == UnreachableError.exit_code, run.output
    assert 'mlflow_e2e_up{target="staging",route="external"} 0' in metrics.read_text()
    data = json.loads(report.read_text())
    assert (data["outcome"], data["errors"]) == ("failed", [])
    assert [(cell["id"], cell["outcome"]) for cell in data["cells"]] == [("external/any/reachable", "failed")]
    assert run.outcomes() == {reachable("external"): "failure"}
    assert '<property name="route" value="external"' in run.junit.read_text()
