"""What a target's profile accepts: of the tests that have failed, and whether that still is so."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime, timezone

from mlflow_proxy_e2e.errors import BadProfileError
from mlflow_proxy_e2e.target import Target


def accepted_tests(target: Target, failed: Iterable[str]) -> Mapping[str, str]:
    """Return which failed tests the profile accepts by their own ids, and why."""
    pairs = ((test, entry) for test in failed for entry in target.accepted if entry.covers_test(test))
    return {test: entry.reason for test, entry in pairs}


def outdated(target: Target) -> Iterator[str]:
    """Say which entries are past their date."""
    today = datetime.now(timezone.utc).date().isoformat()
    yield from (f"{each.what}: it was accepted until {each.until}" for each in target.accepted if each.until and each.until < today)


def unmatched(target: Target, found: Collection[str], failed: Collection[str]) -> Iterator[str]:
    """Say which entries match nothing.

    Args:
        target: whose profile it is.
        found: the ids of causes that were found, or could not be asked about.
        failed: the ids of tests that have failed.
    """
    for entry in target.accepted:
        if entry.what not in found and not any(map(entry.covers_test, failed)):
            what = "no test has failed that it matches" if entry.is_of_tests else "no such cause was found"
            yield f"{entry.what}: {what}"


def error(wrong: Iterable[str]) -> BadProfileError | None:
    """Return the error that entries are, about which something is wrong. None if there are none."""
    lines = [f"  {line}." for line in wrong]
    return BadProfileError("\n".join(["[accept] in the profile is out of date:", *lines])) if lines else None
