"""A line for the user, in between pytest's own output."""

from __future__ import annotations

import pytest


def say(config: pytest.Config, text: str) -> None:
    """Print the text on a line of its own, where pytest has a terminal reporter."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter:
        reporter.ensure_newline()
        reporter.write_line(text)
