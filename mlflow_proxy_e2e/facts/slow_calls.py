"""Calls with a pause in them: whether a hop ends what takes its time."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from functools import partial

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.facts.facts import Facts
from mlflow_proxy_e2e.facts.sandbox import sandbox
from mlflow_proxy_e2e.facts.sign import NO, Reading, Shows, Sign
from mlflow_proxy_e2e.target import Route
from mlflow_proxy_e2e.wire import Request, Wire

SMALL = b"x" * 5000
NEEDED = {"artifacts", "large-bodies"}
# What has nothing to do with time: success, refusals, and errors other than those for what has taken too long.
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
    upload = own.large_file(f"{route}-paused")  # a file of its own, since others are written meanwhile
    if (facts.ask_directly(upload) or facts.ask(route, upload)).status != 200:
        return ""

    def received(wire: Wire) -> str:
        wire.send(wire.encode(Request("GET", upload.path)))
        time.sleep(timeouts.PATIENCE)
        answer = wire.receive()
        whole = answer.status != 200 or answer.body == upload.body
        return str(answer.status) if whole else f"{answer.status} and {len(answer.body)} bytes"

    return _reproduced(facts, f"download with a pause on {route}", route, received)


def _reproduced(facts: Facts, name: str, route: Route, call: Callable[[Wire], str]) -> str:
    """Return what comes of a call, and comes of it again where a hop has ended it: nothing if that was so only once."""
    outcome = facts.observe(name, lambda: _outcome(facts, route, call))
    if not outcome or outcome in ANSWERED:
        return outcome
    if outcome in map(str, facts.limit_statuses):
        return ""
    again = facts.observe(f"{name}, again", lambda: _outcome(facts, route, call))
    return outcome if again == outcome else ""


def _outcome(facts: Facts, route: Route, call: Callable[[Wire], str]) -> str:
    """Return what came of a call with a pause: a status, or the kind of error; nothing if it still goes on."""
    try:
        with Wire(route, facts.control, facts.target.carriers[0], timeout=timeouts.PROBE) as wire:
            return call(wire)
    except (OSError, http.client.HTTPException) as error:
        is_time_out = isinstance(error, TimeoutError) or isinstance(error.__cause__, TimeoutError)
        return "" if is_time_out else type(error).__name__


def _ended(call: Outcome, what: str, test: Callable[[str], bool]) -> Sign:
    """Return the sign that such a call is ended by a hop, in such a way."""

    def read(facts: Facts) -> Reading:
        if not facts.target.capabilities >= NEEDED or not (own := sandbox(facts)) or not own.is_there:
            return NO
        routes = facts.open_routes
        outcomes = dict(zip(routes, facts.at_once(partial(call, facts), routes, len(routes)), strict=True))
        cut = [route for route, outcome in outcomes.items() if outcome and test(outcome)]
        if not cut:
            return NO
        evidence = f"{what} with a pause of {timeouts.PATIENCE:g} s on {cut[0]}: {outcomes[cut[0]]}"
        is_known = all(outcomes.values())  # a route on which it still goes on may be affected, too
        return Reading(Shows.YES, (evidence,), facts.behind(cut) if is_known else ("edge", "proxy"), frozenset(map(str, cut)))

    return Sign(read, timeouts.PATIENCE)


upload_ended = _ended(_upload, "an upload", lambda outcome: outcome not in ANSWERED)
download_ended = _ended(_download, "a download", lambda outcome: outcome not in ANSWERED and not outcome.endswith("bytes"))
download_cut = _ended(_download, "a download", lambda outcome: outcome.endswith("bytes"))
