"""Slow calls: whether a hop ends them, and whether a hop makes them slow."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.facts.facts import READ, Facts, together
from mlflow_proxy_e2e.facts.outage import decision
from mlflow_proxy_e2e.facts.question import Question, Reply
from mlflow_proxy_e2e.facts.sandbox import sandbox
from mlflow_proxy_e2e.facts.sign import NO, Reading, Shows, Sign, needing
from mlflow_proxy_e2e.target import Identity, Route
from mlflow_proxy_e2e.wire import Request, Wire

SMALL = b"x" * 5000
SAMPLES = 2  # of a read, on each route, besides the first
# Outcomes that have nothing to do with time: success, refusals, and errors other than timeouts.
ANSWERED = {str(status) for status in range(200, 600) if status not in (408, 502, 503, 504)}
Outcome = Callable[[Facts, Route], str]


def _upload(facts: Facts, route: Route) -> str:
    own = sandbox(facts)
    assert own
    if facts.ask(route, own.plain_file(route)).status != 200:
        return ""
    upload = Request("PUT", f"{own.artifacts}/{route}-slow.bin", body=SMALL)

    def sent(wire: Wire) -> str:
        data = wire.encode(upload)
        wire.send(data[:-1000])
        time.sleep(timeouts.PATIENCE)
        wire.send(data[-1000:])
        return str(wire.receive("PUT").status)

    return _reproduced(facts, f"upload with a pause on {route}", route, sent)


def _download(facts: Facts, route: Route) -> str:
    own = sandbox(facts)
    assert own
    upload = own.large_file(f"{route}-paused")  # a file of its own, as others are written at the same time
    if facts.ask_mlflow(route, upload).status != 200:
        return ""

    def received(wire: Wire) -> str:
        wire.send(wire.encode(Request("GET", upload.path)))
        time.sleep(timeouts.PATIENCE)
        answer = wire.receive()
        whole = answer.status != 200 or answer.body == upload.body
        return str(answer.status) if whole else f"{answer.status} and {len(answer.body)} bytes"

    return _reproduced(facts, f"download with a pause on {route}", route, received)


def _reproduced(facts: Facts, name: str, route: Route, call: Callable[[Wire], str]) -> str:
    """Return the outcome of a call. One that a hop has ended is made again, and counts only if that happens both times."""
    outcome = facts.observe(name, lambda: _outcome(facts, route, call))
    if not outcome or outcome in ANSWERED:
        return outcome
    if outcome in map(str, facts.limit_statuses):
        return ""
    again = facts.observe(f"{name}, again", lambda: _outcome(facts, route, call))
    return outcome if again == outcome else ""


def _outcome(facts: Facts, route: Route, call: Callable[[Wire], str]) -> str:
    """Return the outcome of a call with a pause: a status or the kind of error; nothing if it is still going on."""
    try:
        with Wire(route, facts.control, facts.target.carriers[0], timeout=timeouts.PROBE) as wire:
            return call(wire)
    except (OSError, http.client.HTTPException) as error:
        is_time_out = isinstance(error, TimeoutError) or isinstance(error.__cause__, TimeoutError)
        return "" if is_time_out else type(error).__name__


def _ended(call: Outcome, what: str, test: Callable[[str], bool], *needed: str) -> Sign:
    """Return the sign that a hop ends such a call, which needs these capabilities, and that its outcome is such."""

    def read(facts: Facts) -> Reading:
        promised = needing("artifacts", *needed, scope="write")(facts).shows is Shows.YES
        if not promised or not (own := sandbox(facts)) or not own.is_there:
            return NO
        routes = facts.open_routes
        outcomes = dict(zip(routes, facts.at_once(partial(call, facts), routes, len(routes)), strict=True))
        cut = [route for route, outcome in outcomes.items() if outcome and test(outcome)]
        if not cut:
            return NO
        evidence = f"{what} with a pause of {timeouts.PATIENCE:g} s on {cut[0]}: {outcomes[cut[0]]}"
        is_known = all(outcomes.values())  # a route on which the call still goes on may be affected as well
        return Reading(Shows.YES, (evidence,), facts.behind(cut) if is_known else ("edge", "proxy"), frozenset(map(str, cut)))

    return Sign(read, timeouts.PATIENCE)


def _late(facts: Facts) -> Reading:
    """Look for routes on which every read takes longer than the slowest read made directly at the same time."""
    late = [route for route in facts.open_routes if facts.ask(route, READ).seconds > timeouts.SLOWER]
    if not late or facts.direct is None:
        return NO
    reads = [READ.marked(facts.token()) for _ in range(SAMPLES)]
    replies = facts.replies(Question(route, read, who) for route, who in _callers(facts, late) for read in reads)
    own = [reply for reply in replies if reply.question.route == facts.direct]
    most = max(own, key=lambda reply: reply.seconds)
    slower = [reply for route in late if (reply := _fastest(replies, route)) and reply.seconds - most.seconds > timeouts.SLOWER]
    if not slower or not all(reply.works for reply in own):
        return NO
    routes = [reply.question.route for reply in slower]
    return Reading(Shows.YES, (slower[0], most), _where_late(facts, routes), frozenset(map(str, routes)))


def _callers(facts: Facts, routes: Iterable[Route]) -> Iterator[tuple[Route, Identity | None]]:
    yield from ((route, facts.control) for route in routes)
    if facts.direct:
        yield facts.direct, None


def _fastest(replies: Iterable[Reply], route: Route) -> Reply | None:
    works = [reply for reply in replies if reply.question.route == route and reply.works]
    return min(works, key=lambda reply: reply.seconds, default=None)


def _where_late(facts: Facts, routes: Iterable[Route]) -> tuple[str, ...]:
    """Return the hops where the time may be spent: the auth service alone if it is known to be slow to decide."""
    hops = facts.behind(routes)
    decided = decision(facts)
    if decided is None:
        return hops if hops == ("edge",) else together("auth", *hops)
    return ("auth",) if decided.seconds > timeouts.SLOWER else hops


slower_than_mlflow = Sign(lambda facts: facts.once(_late))
upload_ended = _ended(_upload, "an upload", lambda outcome: outcome not in ANSWERED)
download_ended = _ended(
    _download, "a download", lambda outcome: outcome not in ANSWERED and not outcome.endswith("bytes"), "large-bodies"
)
download_cut = _ended(_download, "a download", lambda outcome: outcome.endswith("bytes"), "large-bodies")
