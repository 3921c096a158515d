"""What a route must make of MLflow's answers: nothing. How an answer is held against the one that MLflow itself gave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fixtures.wire import Answer, Request, Wire, describe

# Headers of MLflow's answers that may be others, or missing, after a proxy.
HEADERS_THAT_MAY_DIFFER: Mapping[str, str] = {
    "content-length": "says how one connection frames the body, which is compared itself",
    "transfer-encoding": "says how one connection frames the body, which is compared itself",
    "connection": "is about one connection",
    "date": "may be of the hop that answers, and of the second in which it does",
    "expires": "is counted from the second in which MLflow answers",
    "server": "a proxy may name itself",
    "x-mlflow-gateway-duration-ms": "is measured anew for every answer",
}
# Headers by which a client acts: a proxy may add others, such as Via, but none of these.
HEADERS_THAT_MATTER = (
    *("cache-control", "content-disposition", "content-encoding", "content-range", "content-type", "etag", "last-modified"),
    *("location", "retry-after", "set-cookie", "www-authenticate"),
    *("access-control-allow-credentials", "access-control-allow-headers", "access-control-allow-methods"),
    *("access-control-allow-origin", "access-control-expose-headers"),
)


class Excuse(NamedTuple):
    """Answers that may be others through a route: below ``path``, with ``what`` in the body."""

    path: str
    what: bytes
    reason: str


EXCUSES = (
    Excuse(
        "/ajax-api/3.0/mlflow/assistant/",
        b"only accessible from the same host where the MLflow server is running",
        "MLflow serves its assistant to its own machine alone, and who comes through a proxy is told not to be on it",
    ),
)
ATTEMPTS = 10  # to get the same answer from MLflow before and after, while others write


def differences(came: Answer, direct: Answer) -> list[str]:
    """Return what of MLflow's own answer did not come through unchanged, or came in addition."""
    found = []
    if came.status != direct.status:
        found.append(f"the status {direct.status} became {came.status}")
    sent, received = values(direct), values(came)
    for name in sorted({*sent, *(name for name in received if name in HEADERS_THAT_MATTER)} - set(HEADERS_THAT_MAY_DIFFER)):
        if sent.get(name) != received.get(name):
            found.append(f"the header {name} was {sent.get(name)} and became {received.get(name)}")
    if came.body != direct.body:
        found.append(f"the body was {direct.body[:200]!r} and became {came.body[:200]!r}")
    return found


def values(answer: Answer) -> dict[str, list[str]]:
    """Return the values of each header, in the order in which they came."""
    found: dict[str, list[str]] = {}
    for name, value in answer.headers:
        found.setdefault(name.lower(), []).append(value)
    return found


class Oracle:
    """MLflow itself, whose answers are what has to come through a route. Of one thread.

    Args:
        mlflow_itself: a connection to it.
        excused: collects the differences that were met and may be.
    """

    def __init__(self, mlflow_itself: Wire, excused: set[Excuse]) -> None:
        self.mlflow_itself, self._excused = mlflow_itself, excused

    def ask(self, request: Request) -> Answer:
        """Return MLflow's own answer."""
        return self.mlflow_itself.ask(request)

    def difference(self, request: Request, through: Wire, expected: Answer | None = None) -> str | None:
        """Say how the answer through a route differs from MLflow's own, or return None if it does not.

        Others may change meanwhile what MLflow answers, and MLflow itself may fail when much is asked of it at once: a difference
        counts if it comes twice, and MLflow says the same before and after.

        Args:
            expected: what MLflow itself has answered a while ago, if it was asked.
        """
        before = expected or self.ask(request)
        for _ in range(ATTEMPTS):
            if self._is_same(request, through.ask(request), before):
                return None
            after, came = self.ask(request), through.ask(request)
            if not self._is_same(request, came, after) and not differences(after, before):
                found = differences(came, before)
                return describe(through, request, came, f"what MLflow itself answers: {before}", found)
            before = after
        raise AssertionError(f"MLflow itself answered {request.method} {request.path} in {ATTEMPTS} ways, one after the other")

    def _is_same(self, request: Request, came: Answer, expected: Answer) -> bool:
        if not differences(came, expected):
            return True
        excuses = [excuse for excuse in EXCUSES if request.path.startswith(excuse.path) and excuse.what in came.body]
        self._excused.update(excuses)
        return bool(excuses)
