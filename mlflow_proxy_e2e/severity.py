"""Severities of findings, and of failed tests that no finding accounts for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, get_args

from mlflow_proxy_e2e.errors import BadOptionError

Severity = Literal["open", "loss", "down", "contract", "hardening"]  # worst first
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
FAIL_ON: tuple[Severity, ...] = ("open", "loss", "down", "contract")  # what makes a run fail unless --fail-on says otherwise
UNKNOWN: Severity = "down"  # if nothing says otherwise: some caller does not get an answer that it should

# By the subject of tests. The mark ``severity`` overrides it for a single test; all other subjects are UNKNOWN.
BY_SUBJECT: Mapping[str, Severity] = {
    **dict.fromkeys(("bypass-framing", "bypass-headers", "bypass-keys", "bypass-paths"), "open"),
    **dict.fromkeys(("denials", "denied-read", "denied-write", "every-endpoint", "key-lifetime"), "open"),
    **dict.fromkeys(("across-routes", "duplicate-writes", "fidelity-json", "fidelity-names"), "loss"),
    **dict.fromkeys(("fidelity-connections", "fidelity-requests", "fidelity-transfer", "health", "same-answers"), "contract"),
    "secrets": "hardening",
}


def of_subject(subject: str) -> Severity:
    """Return the severity of a failed test by its subject, unless its mark or a finding says otherwise."""
    return BY_SUBJECT.get(subject, UNKNOWN)


def worst(of: Iterable[Severity]) -> Severity:
    """Return the worst of these severities, or UNKNOWN if there are none."""
    return min(of, key=rank, default=UNKNOWN)


def rank(severity: Severity) -> int:
    """Return the key that sorts severities, worst first."""
    return SEVERITIES.index(severity)


def chosen(text: str) -> tuple[Severity, ...]:
    """Return the severities that ``--fail-on`` names, worst first. Raises BadOptionError."""
    named = [name.strip() for name in text.split(",")]
    if unknown := [name for name in named if name not in SEVERITIES]:
        raise BadOptionError(f"--fail-on={text}: there is no severity '{unknown[0]}'. Valid are {', '.join(SEVERITIES)}.")
    return tuple(severity for severity in SEVERITIES if severity in named)
