"""The type of a cause."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NewType

from mlflow_proxy_e2e.facts.sign import Sign
from mlflow_proxy_e2e.severity import Severity

CauseId = NewType("CauseId", str)
Product = Literal["Envoy", "nginx", "AWS"]
Hop = Literal["client", "edge", "proxy", "auth", "mlflow"]  # in the order in which a request crosses them


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Something that can be wrong with a deployment.

    Args:
        id: what reports call it. An id that names no hop is the proxy's, or that of the only hop where it can occur.
        hop: where the problem is.
        severity: ``open`` if a caller gets in or can do something that must be refused, ``loss`` if data is lost, changed,
            duplicated or mixed up, ``down`` if something that should work does not, ``contract`` if it works but answers
            differently than promised, ``hardening`` if it works and could be better.
        symptom: what users see.
        what: what is wrong.
        remedy: how to fix it.
        fixes: the same in the configuration of products where that helps: only the lines that matter.
        shows: the sign by which it is recognised.
        reports: public reports of it: URLs, or issues such as ``mlflow#22095``.
        explains: causes that also show as a consequence of this one: they are not reported next to it.
        reddens: regular expressions, searched for in pytest's ids, of the e2e tests that it makes fail.
    """

    id: CauseId
    hop: Hop
    severity: Severity
    symptom: str
    what: str
    remedy: str
    shows: Sign
    reports: tuple[str, ...] = ()
    explains: tuple[CauseId, ...] = ()
    reddens: tuple[str, ...] = ()
    fixes: Mapping[Product, str] = field(default_factory=dict)
