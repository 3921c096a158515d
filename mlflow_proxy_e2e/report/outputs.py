"""Where the result goes: the requested files, and GitHub if the run is one of its jobs."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlflow_proxy_e2e.errors import BadOptionError, ReportError
from mlflow_proxy_e2e.report import emf, github, history, page, prometheus
from mlflow_proxy_e2e.report.result import Result

STDOUT = "-"
COLLECTED = ".prom"  # the suffix that node_exporter looks for
READABLE = 0o644  # the metrics collector is another user


@dataclass(frozen=True)
class Outputs:
    """The requested outputs.

    Args:
        html, json, prometheus: files that are replaced atomically, so that no reader sees half of one.
        emf: a log that is appended to.
        emf_to_stdout: whether that log is the run's own output.
        history: the folder with all results.
        summary: GitHub's file for a step's summary.
        annotate: whether GitHub parses the run's output.
    """

    html: Path | None = None
    json: Path | None = None
    prometheus: Path | None = None
    emf: Path | None = None
    emf_to_stdout: bool = False
    history: Path | None = None
    summary: Path | None = None
    annotate: bool = False

    @classmethod
    def asked_for(cls, config: pytest.Config, environment: Mapping[str, str] = os.environ) -> Outputs:
        """Return the outputs that the command line and the environment ask for.

        Raises ReportError if one cannot be written, BadOptionError if nobody would read it there.
        """

        def path(option: str) -> Path | None:
            given = config.getoption(option)
            return config.invocation_params.dir / given if given and given != STDOUT else None

        metrics = path("--report-prometheus")
        if metrics and metrics.suffix != COLLECTED:
            raise BadOptionError(f"--report-prometheus={metrics}: the name must end with {COLLECTED}, or collectors ignore it.")
        summary = environment.get("GITHUB_STEP_SUMMARY")
        outputs = cls(
            html=path("--report-html"),
            json=path("--report-json"),
            prometheus=metrics,
            emf=path("--report-emf"),
            emf_to_stdout=config.getoption("--report-emf") == STDOUT,
            history=path("--history"),
            summary=Path(summary) if summary else None,
            annotate=environment.get("GITHUB_ACTIONS") == "true",
        )
        outputs._prepare()
        return outputs

    def write(self, result: Result, say: Callable[[str], None]) -> None:
        """Write all outputs; ``say`` prints. Raises ReportError."""
        text = json.dumps(result.to_data(), indent=1, ensure_ascii=False) + "\n"
        if self.html:
            _replace(self.html, page.render(result, self._earlier(result)))
        if self.json:
            _replace(self.json, text)
        if self.prometheus:
            _replace(self.prometheus, prometheus.render(result))
        if self.emf:
            _append(self.emf, emf.render(result))
        if self.emf_to_stdout:
            say(emf.render(result).rstrip())
        if self.summary:
            _append(self.summary, github.step_summary(result))
        if self.annotate:
            for line in github.commands(result):
                say(line)
        if self.history:
            self._remember(self.history, result, text, say)

    def _earlier(self, result: Result) -> Sequence[tuple[str, str]]:
        if not self.history:
            return ()
        with _told(self.history):
            return history.outcomes(self.history, result)

    @staticmethod
    def _remember(folder: Path, result: Result, text: str, say: Callable[[str], None]) -> None:
        with _told(folder):
            for line in history.changes(folder, result):
                say(line)
            _replace(history.file(folder, result), text)

    def _prepare(self) -> None:
        """Create missing folders, and make sure that all outputs can be written."""
        if self.history:
            with _told(self.history):
                self.history.mkdir(parents=True, exist_ok=True)
                tempfile.TemporaryFile(dir=self.history).close()
        for file in filter(None, (self.html, self.json, self.prometheus)):
            with _told(file):
                if file.is_dir():
                    raise IsADirectoryError(0, "it is a folder")
                file.parent.mkdir(parents=True, exist_ok=True)
                tempfile.TemporaryFile(dir=file.parent).close()
        for file in filter(None, (self.emf, self.summary)):
            with _told(file):
                file.parent.mkdir(parents=True, exist_ok=True)
                file.open("a").close()


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ReportError(path, error) from error


def _append(file: Path, text: str) -> None:
    with _told(file), file.open("a", encoding="utf-8") as log:
        log.write(text)


def _replace(file: Path, text: str) -> None:
    # A name that no collector mistakes for one of its files.
    new = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    with _told(file):
        try:
            new.write_text(text, encoding="utf-8")
            new.chmod(READABLE)
            new.replace(file)
        finally:
            new.unlink(missing_ok=True)


OUTPUTS = pytest.StashKey[Outputs]()  # where the runner's configuration holds them
