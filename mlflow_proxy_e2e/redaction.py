"""Keeps keys out of what people read, including libraries' errors and the variables in tracebacks."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Iterator, Sequence, Set
from functools import lru_cache
from urllib.parse import quote, quote_plus

from mlflow_proxy_e2e.target import Secret

INSTEAD = "[key]"
PART = 12  # characters: a key without so many of them still cannot be guessed


def without(secrets: Iterable[Secret], text: str) -> str:
    """Return the text with a replacement for each secret, and for each part of one that is worth protecting.

    Parts remain where a text was truncated. Secrets are also found as they are written in a URL, JSON, HTML or
    Python.
    """
    short, parts = _hidden(tuple(secrets))
    for form in short:
        text = text.replace(form, INSTEAD)
    if not parts:
        return text
    kept: list[str] = []
    position = 0
    for start in range(len(text) - PART + 1):
        if text[start : start + PART] in parts:
            if start > position or not kept:
                kept += [text[position:start], INSTEAD]
            position = start + PART
    return "".join([*kept, text[position:]])


@lru_cache
def _hidden(secrets: tuple[Secret, ...]) -> tuple[Sequence[str], Set[str]]:
    """Return the forms of secrets that are too short for parts, longest first, and the parts of all others."""
    forms = {form for secret in secrets for form in _forms(secret.reveal())} - {""}
    parts = {form[start : start + PART] for form in forms for start in range(len(form) - PART + 1)}
    return sorted((form for form in forms if len(form) < PART), key=len, reverse=True), parts


def _forms(secret: str) -> Iterator[str]:
    yield from (secret, quote(secret), quote(secret, safe=""), quote_plus(secret))
    yield from (json.dumps(secret)[1:-1], repr(secret)[1:-1], html.escape(secret))
