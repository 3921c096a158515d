"""Attempts to get past the gate, and their outcome.

Correct proxies treat an odd request differently: one normalizes it and decides, another answers 400 or 404, redirects, or
closes the connection. The checks here are true of all of them: if the caller is not permitted, nothing reaches MLflow, nothing
is written, and the answer is not a success, shows nothing that MLflow holds, and redirects to no other host.
"""

from __future__ import annotations

import http.client
from collections.abc import Collection
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

from mlflow_proxy_e2e.checks.denials import wrong_in_denial
from mlflow_proxy_e2e.target import Denial, Identity, Route
from mlflow_proxy_e2e.wire import Answer, Request, UnfinishedError, Wire

Came = Answer | OSError | http.client.HTTPException


@dataclass(frozen=True)
class Attempt:
    """A request that was sent, and its outcome.

    Args:
        mark: the name of the tag that it writes if it gets past the gate.
        shown: the request as messages show it; a key in an unusual place is left out.
        harmless: answers that give nothing away, even if they are successes or redirects. None: any answer without data from
            MLflow.
        denial: the only correct refusal, where HTTP leaves no choice.
        trace: what MLflow's log contains if it got past the gate.
        after: the answer to another identity's own read right after it, on another connection.
    """

    mark: str
    wire: Wire
    shown: Request
    came: Came
    harmless: Collection[Answer] | None
    denial: Denial | None
    trace: str
    after: Came | None


@dataclass(frozen=True)
class Evidence:
    """What shows whether attempts got past the gate.

    Args:
        canary: the text in every answer that shows data from MLflow.
        control: an identity whose key no answer may contain.
        written: the names of all tags that exist afterwards.
        logged: the lines that MLflow has logged since.
    """

    canary: str
    control: Identity
    written: set[str]
    logged: list[str] = field(repr=False)


def ask(wire: Wire, request: Request) -> Came:
    """Send a request on a new connection, and return the answer, or what happened instead."""
    with wire:
        try:
            return wire.ask(request)
        except (OSError, http.client.HTTPException) as nothing:
            return nothing


def is_served(came: Came, canary: str) -> bool:
    """Tell whether a read was answered with data from MLflow."""
    return isinstance(came, Answer) and came.status == 200 and canary.encode() in came.body


def expected(attempt: Attempt) -> str:
    """Describe the outcome that an attempt should have had."""
    if attempt.denial:
        return f"{attempt.denial.status} {attempt.denial.error_code} in MLflow's JSON format"
    if attempt.harmless is None:
        return "any answer of MLflow's to the call that the line shows" if attempt.wire.identity else "nothing of what MLflow holds"
    return "a refusal"


def flaw(attempt: Attempt, evidence: Evidence) -> str | None:
    """Return how an attempt got past the gate, or what its answer gives away. None if it was refused correctly."""
    if attempt.mark in evidence.written:
        return "it was written"
    if any(attempt.trace in line for line in evidence.logged):
        return "it reached MLflow"
    if attempt.after is not None and not is_served(attempt.after, evidence.canary):
        return f"then another identity's read was answered {attempt.after}"
    if isinstance(attempt.came, Answer):
        return _flaw_of_answer(attempt, attempt.came, evidence)
    return _flaw_of_failure(attempt, attempt.came, evidence)


def _flaw_of_failure(attempt: Attempt, came: OSError | http.client.HTTPException, evidence: Evidence) -> str | None:
    if evidence.canary in str(came):
        return "that is what MLflow holds"
    if isinstance(came, UnfinishedError) and came.status < 300 and attempt.harmless is not None:
        return "that is the beginning of a success"
    return None if attempt.denial is None else "there was no answer"


def _flaw_of_answer(attempt: Attempt, came: Answer, evidence: Evidence) -> str | None:
    if came.status == 101:
        return "the connection was handed over"
    if _shows_a_key(came, evidence.control, attempt.wire.identity):
        return "that shows the key"
    may_see = attempt.harmless is None and attempt.wire.identity is not None
    if evidence.canary in str((came.headers, came.body)) and not may_see:
        return "that is what MLflow holds"
    return None if attempt.harmless is None else _flaw_of_refusal(attempt, came, attempt.harmless)


def _shows_a_key(came: Answer, *identities: Identity | None) -> bool:
    keys = [identity.key.reveal() for identity in identities if identity and identity.key]
    return any(key in str((came.headers, came.body)) for key in keys)


def _flaw_of_refusal(attempt: Attempt, came: Answer, harmless: Collection[Answer]) -> str | None:
    route = attempt.wire.route
    if any(is_alike(route, came, known) for known in harmless):
        return None
    if came.status < 300:
        return "that is a success"
    if leads_elsewhere(route, came):
        return "that leads to another host"
    return None if attempt.denial is None or not wrong_in_denial(came, attempt.denial) else "that is something else"


def leads_elsewhere(route: Route, came: Answer) -> bool:
    """Tell whether an answer redirects to another host. A proxy knows its own port, but not the edge's."""
    return 300 <= came.status < 400 and _leads_to(route, came) != urlsplit(route.url).hostname


def is_alike(route: Route, one: Answer, other: Answer) -> bool:
    """Tell whether two answers are equal. Redirects are equal if they lead to the same host, whatever the path."""
    if 300 <= one.status < 400:
        return one.status == other.status and _leads_to(route, one) == _leads_to(route, other)
    return (one.status, one.body) == (other.status, other.body)


def _leads_to(route: Route, came: Answer) -> str | None:
    return urlsplit(urljoin(f"{route.url}/", came.header("Location") or "")).hostname
