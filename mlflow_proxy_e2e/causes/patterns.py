"""Regular expressions of pytest's ids that several causes share."""

from __future__ import annotations

ALL = r"."
EXTERNAL = r"\[(.+-)?external"
# Calls that are denied for want of a good key: those with no key, and those with a key that is not accepted.
KEYLESS = r"\[(.+-)?(anonymous|expired|malformed|revoked|unknown)"
DENIALS = r"test_(denials|multipart_upload|workspaces|smoke|bypass_\w+)\.py::test_(client_raises_)?denied"


def external(test: str) -> str:
    """Return the pattern of what ``test`` matches on the route that crosses the edge."""
    return rf"{test}.*{EXTERNAL}"
