"""What a route must make of MLflow's answers: nothing. How an answer is held against the one that MLflow itself gave."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fixtures.wire import Answer, Request, Wire, describe

Ask = Callable[[], Answer]

# Headers of MLflow's answers that may be others, or missing, after a proxy.
HEADERS_THAT_MAY_DIFFER: Mapping[str, str] = {
    "content-length": "says how one connection frames the body, which is compared itself",
    "transfer-encoding": "says how one connection frames the body, which is compared itself",
    "connection": "is about one connection",
    "date": "may be of the hop that answers, and of the second in which it does",
    "expires": "is counted from the second in which MLflow answers",
    "server": "a proxy may name itself",
}
# Headers by which a client acts: a proxy may add others, such as Via, but none of these.
HEADERS_THAT_MATTER = (
    *("cache-control", "content-disposition", "content-encoding", "content-range", "content-type", "etag", "last-modified"),
    *("location", "retry-after", "set-cookie", "www-authenticate"),
    *("access-control-allow-credentials", "access-control-allow-headers", "access-control-allow-methods"),
    *("access-control-allow-origin", "access-control-expose-headers"),
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


def difference(request: Request, through: Wire, direct: Wire, came: Answer | None = None) -> str | None:
    """Say how the answer through a route differs from MLflow's own, or return None if it does not.

    Others may change meanwhile what MLflow answers: it counts if MLflow itself says the same before and after.

    Args:
        came: what has already come through the route, if anything.
    """
    expected = direct.ask(request)
    for _ in range(ATTEMPTS):
        came = came or through.ask(request)
        if not (found := differences(came, expected)):
            return None
        before, came, expected = direct.ask(request), through.ask(request), direct.ask(request)
        if not differences(before, expected) and (found := differences(came, expected)):
            return describe(through, request, came, f"what MLflow itself answers: {expected}") + "\n          " + "; ".join(found)
    raise AssertionError(f"MLflow itself answered {request.method} {request.path} differently {ATTEMPTS} times in a row")
