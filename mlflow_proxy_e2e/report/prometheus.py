"""The result for Prometheus: the text format, as node_exporter's textfile collector reads it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from mlflow_proxy_e2e.report.result import Cell, Result

Sample = tuple[Mapping[str, str], float]


class Metric(NamedTuple):
    """A gauge."""

    name: str
    help: str
    samples: Iterable[Sample]


def render(result: Result) -> str:
    """Return the metrics as text."""
    return "".join(_lines(result))


def _metrics(result: Result) -> Iterator[Metric]:
    target = {"target": result.target}
    yield Metric(
        "mlflow_e2e_up",
        "Whether anything works through the route (1) or nothing does (0).",
        (({**target, "route": route}, float(result.is_up(route))) for route in result.routes),
    )
    told = [cell for cell in result.cells if cell.outcome not in ("skipped", "accepted")]
    yield Metric(
        "mlflow_e2e_check_success",
        "Whether all checks of the capability by the identity on the route have passed.",
        (({**target, **_labels(cell)}, float(not cell.bad)) for cell in told),
    )
    yield Metric(
        "mlflow_e2e_check_duration_seconds",
        "How long these checks took.",
        (({**target, **_labels(cell)}, round(cell.seconds, 3)) for cell in told),
    )
    yield Metric(
        "mlflow_e2e_checks",
        "How many checks there were, by outcome.",
        (({**target, "outcome": outcome}, count) for outcome, count in result.counts.items()),
    )
    yield Metric(
        "mlflow_e2e_failures",
        "How many checks the target has failed, by severity.",
        (({**target, "severity": severity}, count) for severity, count in result.severities.items()),
    )
    yield Metric(
        "mlflow_e2e_finding_info",
        "What a diagnosis has found; without a cause if no known one fits.",
        ((labels, 1) for labels in _findings(result)),
    )
    yield Metric("mlflow_e2e_suite_errors", "The number of errors in the suite itself.", [(target, len(result.errors))])
    yield Metric("mlflow_e2e_left_behind", "The number of objects left behind.", [(target, len(result.left_behind))])
    yield Metric("mlflow_e2e_run_duration_seconds", "How long the run took.", [(target, round(result.seconds, 3))])
    yield Metric(
        "mlflow_e2e_last_run_timestamp_seconds",
        "When the run ended, in seconds since 1970.",
        [(target, round(result.started.timestamp() + result.seconds, 3))],
    )
    versions = {"suite": result.suite, "mlflow": result.mlflow or ""}
    yield Metric("mlflow_e2e_info", "The versions of the suite and of MLflow.", [({**target, **versions}, 1)])


def _labels(cell: Cell) -> Mapping[str, str]:
    return {"route": cell.route or "", "identity": cell.identity or "", "capability": cell.capability}


def _findings(result: Result) -> Iterator[Mapping[str, str]]:
    seen = {
        (" ".join(finding.hops), " ".join(finding.causes), finding.severity, str(bool(finding.accepted)).lower())
        for finding in result.findings
    }
    for hop, cause, severity, accepted in sorted(seen):
        yield {"target": result.target, "hop": hop, "cause": cause, "severity": severity, "accepted": accepted}


def _lines(result: Result) -> Iterator[str]:
    for name, help_, samples in _metrics(result):
        yield f"# HELP {name} {help_}\n# TYPE {name} gauge\n"
        for labels, value in samples:
            written = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
            yield f"{name}{{{written}}} {value:.15g}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
