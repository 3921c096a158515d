"""The entries of a profile's [accept]: which failed tests they accept, and whether they are out of date."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime, timezone

from mlflow_proxy_e2e.errors import BadProfileError
from mlflow_proxy_e2e.target import Target


def accepted_tests(target: Target, failed: Iterable[str]) -> Mapping[str, str]:
    """Return the failed tests that the profile accepts by their ids, and the reasons."""
    pairs = ((test, entry) for test in failed for entry in target.accepted if entry.covers_test(test))
    return {test: entry.reason for test, entry in pairs}


def outdated(target: Target) -> Iterator[str]:
    """Return a line for each entry whose date has passed."""
    today = datetime.now(timezone.utc).date().isoformat()
    yield from (f"{each.what}: it was accepted until {each.until}" for each in target.accepted if each.until and each.until < today)


def unmatched(target: Target, found: Collection[str], failed: Collection[str]) -> Iterator[str]:
    """Return a line for each entry that matches nothing.

    Args:
        target: the target whose profile has the entries.
        found: the ids of causes that were found, or that there was no time to ask about.
        failed: the ids of tests that have failed.
    """
    for entry in target.accepted:
        if entry.what not in found and not any(map(entry.covers_test, failed)):
            what = "it matches no failed test" if entry.is_of_tests else "no such cause was found"
            yield f"{entry.what}: {what}"


def error(wrong: Iterable[str]) -> BadProfileError | None:
    """Return the error for entries that have something wrong, one line for each. None if there are no lines."""
    lines = [f"  {line}." for line in wrong]
    return BadProfileError("\n".join(["[accept] in the profile is out of date:", *lines])) if lines else None
