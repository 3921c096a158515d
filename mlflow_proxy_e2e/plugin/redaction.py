"""Keeps keys out of pytest's output: reports of tests and modules, warnings, and internal errors."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterable
from typing import Any

import pytest

from mlflow_proxy_e2e.redaction import without
from mlflow_proxy_e2e.stash import ISSUED, TARGET
from mlflow_proxy_e2e.target import Secret


class Redaction:
    """Redacts the target's secrets, and the keys that tests have had issued."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Redact the report of a module."""
        report = yield
        _redact(report, self._secrets())
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Redact the report of a test."""
        report = yield
        _redact(report, self._secrets())
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_warning_recorded(self, warning_message: warnings.WarningMessage) -> None:
        """Redact the warning."""
        text = str(warning_message.message)
        if (redacted := without(self._secrets(), text)) != text:
            warning_message.message = Warning(redacted)

    @pytest.hookimpl(tryfirst=True)
    def pytest_internalerror(self, excrepr: Any) -> None:
        """Redact an internal error before it is written."""
        text = without(self._secrets(), str(excrepr))
        excrepr.toterminal = lambda writer: writer.line(text)

    def _secrets(self) -> tuple[Secret, ...]:
        target = self._config.stash.get(TARGET, None)
        return (*(target.secrets if target else ()), *self._config.stash.get(ISSUED, []))


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Redaction(config))


def _redact(report: pytest.TestReport | pytest.CollectReport, secrets: Iterable[Secret]) -> None:
    """Remove secrets from a report: from its traceback, and from what the test printed and logged."""
    hidden = tuple(secrets)
    report.sections = [(title, without(hidden, text)) for title, text in report.sections]
    if report.longrepr is not None and (text := str(report.longrepr)) != (redacted := without(hidden, text)):
        report.longrepr = redacted
