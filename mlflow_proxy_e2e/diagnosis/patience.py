"""Whether a hop loses patience with calls that take their time."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.diagnosis.examination import Examination, Finding
from mlflow_proxy_e2e.diagnosis.ground import Ground, artifacts_of, large_file, plain_file
from mlflow_proxy_e2e.diagnosis.traits import by_hop
from mlflow_proxy_e2e.target import Route
from mlflow_proxy_e2e.wire import Request, Wire

SMALL = b"x" * 5000


class Patience:
    """Calls with a pause in them. They begin at once, on all routes, beside whatever else is asked."""

    def __init__(self, x: Examination, own: Ground) -> None:
        self._x = x
        self._pool = ThreadPoolExecutor(len(CUTS) * len(x.routes))
        self._begun = {cut: [(route, self._pool.submit(cut, x, own, route)) for route in x.routes] for cut in CUTS}

    def findings(self) -> Iterator[Finding]:
        """Return what has been cut. A route of which nothing is known yet when the time is over may be affected, too."""
        for cut, begun in self._begun.items():
            wait([future for _, future in begun], self._x.asker.seconds_left)
            evidence = {route: future.result() for route, future in begun if future.done()}
            if cut_off := [route for route in evidence if evidence[route]]:
                hops = self._x.behind(cut_off) if len(evidence) == len(begun) else ("edge", "proxy")
                if str(evidence[cut_off[0]]).endswith("bytes"):
                    causes: tuple[str, ...] = ("answer-cut",) if self._x.target.direct else ("answer-cut", "body-cut")
                else:
                    causes = by_hop(hops, *CUTS[cut])
                yield Finding(causes, hops, (evidence[cut_off[0]],))
        self._pool.shutdown(wait=False)


def _upload(x: Examination, own: Ground, route: Route) -> str | None:
    if x.ask(route, plain_file(own, route)).status != 200:
        return None
    upload = Request("PUT", f"{artifacts_of(own)}/{route}-slow.bin", body=SMALL)

    def sent(wire: Wire) -> str:
        data = wire.encode(upload)
        wire.send(data[:-1000])
        time.sleep(timeouts.PATIENCE)
        wire.send(data[-1000:])
        return str(wire.receive("PUT").status)

    return _cut(x, route, f"an upload with a pause of {timeouts.PATIENCE:g} s", sent)


def _download(x: Examination, own: Ground, route: Route) -> str | None:
    upload = large_file(own, f"{route}-paused")  # a file of its own, since others are written meanwhile
    if (x.ask_directly(upload) or x.ask(route, upload)).status != 200:
        return None

    def received(wire: Wire) -> str:
        wire.send(wire.encode(Request("GET", upload.path)))
        time.sleep(timeouts.PATIENCE)
        answer = wire.receive()
        whole = answer.status != 200 or answer.body == upload.body
        return str(answer.status) if whole else f"{answer.status} and {len(answer.body)} bytes"

    return _cut(x, route, f"a download with a pause of {timeouts.PATIENCE:g} s", received)


def _cut(x: Examination, route: Route, what: str, call: Callable[[Wire], str]) -> str | None:
    """Return, as evidence, what came of a call with a pause: nothing if it was done."""
    try:
        with Wire(route, x.control, x.target.carriers[0], timeout=timeouts.PROBE) as wire:
            outcome = call(wire)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, TimeoutError) or isinstance(error.__cause__, TimeoutError):
            return None  # it is still going on
        outcome = type(error).__name__
    return None if outcome in ANSWERED else f"{what} on {route}: {outcome}"


# What has nothing to do with time: success, refusals, and errors other than those for what has taken too long.
ANSWERED = {str(status) for status in range(200, 600) if status not in (408, 502, 503, 504)}
# What each call means that is cut: behind the edge, and at the edge.
CUTS: Mapping[Callable[[Examination, Ground, Route], str | None], tuple[tuple[str, ...], tuple[str, ...]]] = {
    _upload: (("idle-timeout",), ("idle-timeout",)),
    _download: (("timeout-too-short",), ("edge-timeout-too-short",)),
}
