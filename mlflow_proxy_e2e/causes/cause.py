"""What a cause is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NewType

from mlflow_proxy_e2e.facts.sign import Sign
from mlflow_proxy_e2e.severity import Severity

CauseId = NewType("CauseId", str)
Hop = Literal["client", "edge", "proxy", "auth", "mlflow"]  # in the order in which a request crosses them


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Something that can be wrong with a deployment.

    Args:
        id: what reports call it. An id without a hop's name is the proxy's, or belongs to the only hop that can have it.
        hop: where it sits.
        severity: ``open`` if somebody gets in or may do what they must not, ``loss`` if data is lost, changed, duplicated or
            mixed up, ``down`` if what should work does not, ``contract`` if it works and answers otherwise than promised,
            ``hardening`` if it merely should be better.
        symptom: what users see.
        what: what is wrong.
        remedy: how to fix it.
        shows: the sign that it shows by.
        reports: public reports of it: URLs, or issues such as ``mlflow#22095``.
        explains: causes that this one makes appear besides: they are not reported next to it.
        reddens: regular expressions, searched in pytest's ids: the e2e tests that it turns red.
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
