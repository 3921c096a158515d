"""What the parts of a diagnosis share: how to ask, and how to tell the hop from the routes that are affected."""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from mlflow_proxy_e2e.diagnosis.asking import Asker, Question, Reply
from mlflow_proxy_e2e.diagnosis.trail import Trail
from mlflow_proxy_e2e.target import Carrier, Identity, Route, Secret, Target
from mlflow_proxy_e2e.wire import Request

EDGE_ROUTE, PROXY_ROUTE = "external", "internal"  # the one crosses the edge, the other begins behind it
HOPS = ("client", "edge", "proxy", "auth", "mlflow")
COMMON = re.compile(r"(?:[a-z]{1,6}[_-]){1,2}|[^:]*:")  # what all keys of a kind begin with, such as "sk_live_", or a user's name
KINDS = (string.ascii_lowercase, string.ascii_uppercase, string.digits)
READ = Request("GET", "/api/2.0/mlflow/experiments/search?max_results=1")


@dataclass(frozen=True)
class Finding:
    """Something that is wrong. ``causes`` are ids, ``what`` says it in words where there are none."""

    causes: tuple[str, ...]
    hops: tuple[str, ...]
    evidence: tuple[object, ...]  # replies, lines of logs and remarks, as they print
    what: str = ""


class Examination:
    """One target under diagnosis."""

    def __init__(self, target: Target, suspected: str | None = None, about: Iterable[str] = ()) -> None:
        self.target = target
        # What is wrong on any route shows on the one that crosses most hops, unless the tests that have failed say otherwise.
        self.routes = tuple(sorted(target.routes, key=lambda route: (route.name != suspected, route.name != EDGE_ROUTE)))
        self.about = frozenset(about)  # what has failed, which is asked about first
        self.asker = Asker()
        self.trail = Trail(target) if target.hops else None
        self.control = target.who_may("write")[0] if target.who_may("write") else target.who_may("read")[0]
        self.stranger = _stranger(self.control)
        contract = target.contract
        self.refusals = (contract.unauthenticated, contract.forbidden, contract.throttled)

    def question(self, route: Route, request: Request, who: Identity | None = None, carrier: Carrier | None = None) -> Question:
        """Return a question of the identity that may do everything, or of another one."""
        return Question(route, request, who or self.control, carrier or self.target.carriers[0])

    def ask(self, route: Route, request: Request, who: Identity | None = None, carrier: Carrier | None = None) -> Reply:
        """Ask it."""
        return self.asker.ask(self.question(route, request, who, carrier))

    def ask_directly(self, request: Request) -> Reply | None:
        """Ask MLflow itself, where it can be reached."""
        return self.asker.ask(Question(self.target.direct, request)) if self.target.direct else None

    def do_without_direct_if_closed(self) -> None:
        """Have nobody ask MLflow directly who has no way to it: a closed one says nothing about MLflow."""
        direct = self.ask_directly(READ)
        if direct and direct.failure in ("unresolved", "unreachable"):
            self.target = replace(self.target, direct=None)

    def difference(self, request: Request, who: Identity | None, in_what: Callable[[Reply], object], route: Route) -> Reply | None:
        """Return the reply on a route if something about it is not as in MLflow's own: as in two of its own that are equal."""
        reply, direct = self.ask(route, request, who), self.ask_directly(request)
        if direct is None or in_what(reply) == in_what(direct):
            return None
        replies = [self.asker.again(reply.question), self.asker.again(direct.question)]
        return replies[0] if in_what(direct) == in_what(replies[1]) != in_what(replies[0]) else None

    def ask_hop(self, name: str, request: Request | None = None, who: Identity | None = None) -> Reply | None:
        """Ask a hop by itself, by default for its health, if it is known where it is."""
        for hop in self.target.hops:
            if hop.name == name and hop.url:
                return self.asker.ask(Question(Route(name, hop.url, hop.ca), request or Request("GET", hop.health), who))
        return None

    def wrong(self, test: Callable[[Route], Reply | None]) -> list[Reply]:
        """Return the replies that show that something is wrong. All routes are asked once it has shown on the first."""
        first, *others = self.routes
        shown = self.twice(test, first)
        return [shown, *filter(None, map(test, others))] if shown else []

    def twice(self, test: Callable[[Route], Reply | None], route: Route) -> Reply | None:
        """Return the reply that shows that something is wrong, if it shows each time: what is so now and then is something else."""
        if not (shown := test(route)):
            return None
        with self.asker.afresh():
            return shown if test(route) else None

    def behind(self, affected: Iterable[Route], hop: str = "proxy") -> tuple[str, ...]:
        """Return where something sits that is wrong on these routes: at the edge if only on the one that crosses it.

        ``hop`` is where it sits otherwise. With a single route, which may begin anywhere in front of the proxy, nobody can tell.
        """
        names = {route.name for route in affected}
        if len(self.target.routes) == 1:
            return (hop,) if names == {PROXY_ROUTE} else together("edge", "proxy", hop)
        return ("edge",) if names == {EDGE_ROUTE} else (hop,)

    def trail_of(self, reply: Reply) -> Sequence[str]:
        """Return what the hops' logs say of a request, as evidence."""
        return [str(step) for step in self.trail.steps(reply.request_id)] if self.trail else []


def together(*hops: str) -> tuple[str, ...]:
    """Return several hops, each once, in the order in which a request crosses them."""
    return tuple(hop for hop in HOPS if hop in hops)


def works(reply: Reply) -> bool:
    """Tell whether a read was answered as MLflow answers it."""
    return reply.status == 200 and isinstance(reply.json(), dict) and reply.error_code is None


def _stranger(control: Identity) -> Identity | None:
    """Return somebody whose key looks like a good one and is none, so that whoever checks keys has to look it up."""
    if control.key is None:
        return None
    key = control.key.reveal()
    form = COMMON.match(key)
    at = form.end() if form else 0
    made_up = "".join(secrets.choice(next((kind for kind in KINDS if each in kind), each)) for each in key[at:])
    return Identity("a stranger", key=Secret(key[:at] + made_up), carrier=control.carrier)
