"""Internal addresses, which answers must not contain."""

from __future__ import annotations

import re

INTERNAL = re.compile(  # addresses of private networks (RFC 1918), and names that only resolve inside them
    rb"(?<![\d.])(?:(?:127|10)\.\d{1,3}|192\.168|172\.(?:1[6-9]|2\d|3[01]))(?:\.\d{1,3}){2}(?![\d.])|[\w-]+\.(?:internal|local|svc)\b"
)


def internal_addresses(said: bytes, own: bytes) -> list[bytes]:
    """Return the internal addresses in an answer, except for the one that was called."""
    return INTERNAL.findall(said.replace(own, b""))
