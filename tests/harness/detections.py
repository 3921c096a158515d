"""Which e2e tests each fault turns red."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

E2E = "tests/e2e"


class Detection(NamedTuple):
    """Which e2e tests are run on the faulty system, and a pattern of the ids that turn red. All others must stay green."""

    tests: tuple[str, ...]
    red: str


DETECTED_BY: Mapping[str, Detection] = {}
