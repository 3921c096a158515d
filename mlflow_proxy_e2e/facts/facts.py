"""The facts about one target: each is observed once, when a sign first needs it, and recorded under its own name.

All conclusions are functions of these observations alone, so that a recording leads to the same conclusions.
"""

from __future__ import annotations

import re
import secrets as random
import string
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.endpoints.scopes import decided_otherwise
from mlflow_proxy_e2e.errors import ReportError
from mlflow_proxy_e2e.facts.prober import AT_ONCE, DecidedOtherwiseError, NotAskedError, Prober
from mlflow_proxy_e2e.facts.question import Question, Reply
from mlflow_proxy_e2e.facts.recording import Recording, named
from mlflow_proxy_e2e.facts.trace import LogLine, lines_about, lines_with
from mlflow_proxy_e2e.target import Carrier, Hop, Identity, Route, Secret, Target
from mlflow_proxy_e2e.wire import Request

S = TypeVar("S")
T = TypeVar("T")

EDGE_ROUTE, PROXY_ROUTE = "external", "internal"  # the first goes through the edge, the second starts behind it
HOPS = ("client", "edge", "proxy", "auth", "mlflow")  # in the order in which a request crosses them
COMMON = re.compile(r"(?:[a-z]{1,6}[_-]){1,2}|[^:]*:")  # of all keys of a kind, such as "sk_live_", or a user's name
KINDS = (string.ascii_lowercase, string.ascii_uppercase, string.digits)
BURST = 24  # calls, as many at a time as a diagnosis makes
SINGLE_CALLS = 6  # all must be answered: if one of two servers fails, that happens once in 64 times
LIMIT_STATUSES = (429, 503)  # nginx and Envoy answer 503 by default or in older configurations
READ = Request("GET", "/api/2.0/mlflow/experiments/search?max_results=1")
NEEDS_ADMISSION = "no good key gets through"  # why something cannot be asked
NEEDS_DIRECT = "needs a direct route to MLflow"
FAILED = "what has failed"  # the name under which a recording has the arguments of the diagnosis
TOKENS = uuid.UUID("3f0d7c1e-9a53-4c6f-8f8e-2d1b6a7c5e90")  # the namespace of unique tokens


class _Context(threading.local):
    """The scope of this thread's observations, how often it has looked, and what it could not ask for lack of."""

    def __init__(self) -> None:
        self.scope, self.look, self.count = "", 0, 0
        self.lacks: set[str] = set()


class Facts:
    """What can be observed of a target. Safe to use from several threads.

    Args:
        target: the target to observe.
        suspected: the route on which all failed tests failed, if there is one.
        about: the subjects of the failed tests.
        recording: earlier observations. Nothing is asked then, and what the recording lacks is unknown.
        may_create: whether an experiment may be created, with an identity that is allowed to write.
        seconds: for all questions together.
    """

    def __init__(
        self,
        target: Target,
        suspected: str | None = None,
        about: Iterable[str] = (),
        recording: Recording | None = None,
        *,
        may_create: bool = True,
        seconds: float = timeouts.DIAGNOSIS,
    ) -> None:
        self.target = target
        # A problem on any route shows on the one with the most hops, unless the failed tests say otherwise.
        self.routes = tuple(sorted(target.routes, key=lambda route: (route.name != suspected, route.name != EDGE_ROUTE)))
        self.about = frozenset(about)
        self.may_create = may_create
        self.control = target.insider
        self.stranger = _stranger(self.control)
        contract = target.contract
        self.refusals = (contract.unauthenticated, contract.forbidden, contract.throttled)
        self.is_live = recording is None
        self.recording = recording or Recording(target)
        self.secrets: list[Secret] = list(target.secrets)
        self._prober = Prober(seconds)
        self._lock = threading.Lock()
        self._observed: dict[str, Future[Any]] = {}
        self._lacking: dict[str, set[str]] = {}  # by the name of a conclusion
        self._context = _Context()
        self._seed = self.observe("seed", lambda: uuid.uuid4().hex)
        self.limit_statuses: frozenset[int | None] = frozenset()  # of refusals that only happen in bursts
        self._at_end: list[Callable[[], None]] = []
        if self.is_live:
            self.recording.observations[FAILED] = {"route": suspected, "about": sorted(self.about), "may_create": may_create}

    @classmethod
    def recorded(cls, recording: Recording) -> Facts:
        """Return the facts in a recording: nothing is asked."""
        said = recording.observations[FAILED]
        return cls(recording.target, said["route"], said["about"], recording, may_create=said.get("may_create", True))

    # Observations and their names.

    def observe(self, name: str, live: Callable[[], T]) -> T:
        """Return the observation of that name, made now or earlier. Raises NotAskedError if it cannot be had."""
        future, is_mine = self._claim(name)
        if is_mine:
            try:
                future.set_result(self._seen(name, live))
            except BaseException as error:
                future.set_exception(error)
        return cast(T, future.result())

    def once(self, conclusion: Callable[[Facts], T]) -> T:
        """Return a conclusion from facts, computed once for all signs that need it."""
        return self.once_as(conclusion.__qualname__, conclusion)

    def once_as(self, name: str, conclusion: Callable[[Facts], T]) -> T:
        """Return the same for a function that has no name of its own."""
        future, is_mine = self._claim(f"concluded {name}")
        if is_mine:
            with self.within(name) as lacks:
                self._lacking[name] = lacks
                try:
                    future.set_result(conclusion(self))
                except BaseException as error:
                    future.set_exception(error)
        try:
            return cast(T, future.result())
        finally:
            self._context.lacks |= self._lacking[name]

    def lack(self, why: str) -> None:
        """Note why something cannot be asked. The cause that is being read is then not ruled out."""
        self._context.lacks.add(why)

    def _claim(self, name: str) -> tuple[Future[Any], bool]:
        with self._lock:
            if known := self._observed.get(name):
                return known, False
            future = self._observed[name] = Future()
            return future, True

    def _seen(self, name: str, live: Callable[[], T]) -> T:
        if not self.is_live:
            if name not in self.recording.observations:
                raise NotAskedError(name)
            return cast(T, self.recording.observations[name])
        seen = live()
        self.recording.observations[name] = seen
        return seen

    @contextmanager
    def within(self, scope: str) -> Iterator[set[str]]:
        """Within the block, this thread's repeated observations are kept apart from those of others.

        Yields a set that then gets what could not be asked for lack of.
        """
        context = self._context
        before = context.scope, context.count, context.look, context.lacks
        context.scope, context.count, context.look, context.lacks = scope, 0, 0, set()
        try:
            yield context.lacks
        finally:
            context.scope, context.count, context.look, context.lacks = before

    @contextmanager
    def looking_again(self) -> Iterator[None]:
        """Within the block, this thread observes everything again."""
        self._context.look += 1
        try:
            yield
        finally:
            self._context.look -= 1

    def token(self) -> str:
        """Return a token that has not been used before."""
        self._context.count += 1
        return uuid.uuid5(TOKENS, f"{self._seed} {self._context.scope} {self._context.look} {self._context.count}").hex

    # Questions to the target.

    def question(self, route: Route, request: Request, who: Identity | None = None, carrier: Carrier | None = None) -> Question:
        """Return a question by an identity: by default, one with all the scopes that any identity has."""
        return Question(route, request, who or self.control, carrier or self.target.carriers[0])

    def ask(self, route: Route, request: Request, who: Identity | None = None, carrier: Carrier | None = None) -> Reply:
        """Ask it. Raises NotAskedError."""
        return self.reply(self.question(route, request, who, carrier))

    def reply(self, question: Question) -> Reply:
        """Return the reply to a question, or the earlier one if it was asked before. Raises NotAskedError."""
        return self._reply(question, f" look {self._context.look}" if self._context.look else "")

    def replies(self, questions: Iterable[Question]) -> list[Reply]:
        """Ask questions concurrently, and return their replies. Raises NotAskedError."""
        suffix = f" look {self._context.look}" if self._context.look else ""
        return self._at_once([(question, suffix) for question in questions])

    def again(self, question: Question) -> Reply:
        """Ask a question again, and return the new reply. Raises NotAskedError."""
        return self._reply(question, self._new_suffix())

    def after_pause(self, question: Question) -> Reply:
        """Return the reply to a question that is asked after a pause. Raises NotAskedError."""
        if self.is_live:
            time.sleep(timeouts.BETWEEN_SINGLE_CALLS)
        return self.again(question)

    def several_times(self, question: Question, times: int) -> list[Reply]:
        """Ask a question several times, each time on a new connection, and return the replies. Raises NotAskedError."""
        return [self.again(question) for _ in range(times)]

    def _new_suffix(self) -> str:
        self._context.count += 1
        return f" again for {self._context.scope} {self._context.look}.{self._context.count}"

    def _at_once(self, questions: Sequence[tuple[Question, str]]) -> list[Reply]:
        return self.at_once(lambda each: self._reply(*each), questions, AT_ONCE)

    def at_once(self, do: Callable[[S], T], things: Sequence[S], most: int) -> list[T]:
        """Call a function for each of several items, concurrently while there are replies to wait for."""
        if not self.is_live or len(things) < 2:
            return list(map(do, things))
        with ThreadPoolExecutor(min(most, len(things))) as threads:
            return list(threads.map(do, things))

    def is_decided_otherwise(self, question: Question) -> bool:
        """Tell whether the deployment's policy decides a call differently from what signs assume. Its reply would show nothing."""
        request = question.request
        path = request.path.partition("?")[0]
        return question.route in self.target.routes and decided_otherwise(self.target.policy, question.who, request.method, path)

    def read_open(self, route: Route, path: str) -> Reply:
        """Return the reply without a key on a path that is meant to need none. Raises NotAskedError."""
        return self._send(Question(route, Request("GET", path)), "")

    def _reply(self, question: Question, suffix: str) -> Reply:
        if self.is_decided_otherwise(question):
            raise DecidedOtherwiseError(str(question))
        return self._send(question, suffix)

    def _send(self, question: Question, suffix: str) -> Reply:
        def send() -> Reply:
            """Send the question. If a limit on bursts refuses it, it counts as not asked: that says nothing about the call."""
            reply = self._prober.send(question, question.request.header("X-Request-ID") or uuid.uuid4().hex)
            if reply.status in self.limit_statuses and not reply.error_code:
                raise NotAskedError(str(question))
            return reply

        return replace(self.observe(named(question, self.secrets) + suffix, send), question=question)

    @property
    def direct(self) -> Route | None:
        """Return the route to MLflow itself, or None if nothing answers there: that says nothing about MLflow."""
        return self.once(_direct)

    def ask_directly(self, request: Request) -> Reply | None:
        """Ask MLflow itself, if it can be reached. Raises NotAskedError."""
        if self.direct:
            return self.reply(Question(self.direct, request))
        self.lack(NEEDS_DIRECT)
        return None

    def ask_mlflow(self, route: Route, request: Request) -> Reply:
        """Ask MLflow itself or, if it cannot be reached, on a route. Raises NotAskedError."""
        return self.reply(Question(self.direct, request) if self.direct else self.question(route, request))

    def ask_hop(self, name: str, request: Request | None = None, who: Identity | None = None) -> Reply | None:
        """Ask a hop directly, by default for its health, if its address is known. Raises NotAskedError."""
        for hop in self.target.hops:
            if hop.name == name and hop.url:
                return self.reply(Question(Route(name, hop.url, hop.ca), request or Request("GET", hop.health), who))
        return None

    # Which keys get through.

    @property
    def burst_refusals(self) -> list[Reply]:
        """Return one refusal for each route that refuses some of many calls at once, but answers each call sent alone."""
        return self.once(_burst_refusals)

    def good(self, route: Route) -> list[Reply]:
        """Return the replies to a good key on a route, one for each carrier. Raises NotAskedError."""
        return self.replies(self.question(route, READ, carrier=carrier) for carrier in self.target.carriers)

    @property
    def broken(self) -> list[Route]:
        """Return the routes on which a good key does not get through with any carrier. Raises NotAskedError."""
        return self.once(_broken)

    @property
    def open_routes(self) -> list[Route]:
        """Return the routes on which a good key gets through with its usual carrier. Raises NotAskedError."""
        broken = self.broken
        return [route for route in self.routes if route not in broken or self.ask(route, READ).works]

    # Logs, where the stack is the lab's own.

    @property
    def has_logs(self) -> bool:
        """Tell whether the hops' logs can be read."""
        return bool(self.target.hops)

    def lines(self, request_id: str, reached: str = "") -> list[LogLine]:
        """Return the lines about a request in the hops' logs, in the order of the hops. Raises NotAskedError.

        ``reached`` names a hop that is known to have got the request: its line is waited for.
        """
        return self._lines(f"log {request_id}", lambda: lines_about(request_id, self.target.hops, reached))

    def lines_at(self, hop: str, request_id: str) -> list[LogLine]:
        """Return the same for one hop, or for the several servers of that hop."""
        return [line for line in self.lines(request_id) if line.hop.partition("-")[0] == hop] if self.has_logs else []

    def lines_with(self, texts: Sequence[str], hops: Sequence[str], name: str) -> list[LogLine]:
        """Return the lines of some hops' logs with one of these texts. They are recorded under ``name``, as texts may be keys."""
        asked: list[Hop] = [hop for hop in self.target.hops if hop.name in hops]
        return self._lines(f"log with {name} at {' '.join(hops)}{self._new_suffix()}", lambda: lines_with(texts, asked))

    def _lines(self, name: str, live: Callable[[], list[LogLine]]) -> list[LogLine]:
        return [LogLine(*each) for each in self.observe(name, lambda: [[line.hop, line.line] for line in live()])]

    def said(self, reply: Reply, hop: str, field: str) -> list[str]:
        """Return the values of a field in a hop's log lines about a request."""
        return [str(line.said.get(field, "")) for line in self.lines_at(hop, reply.request_id)]

    def trace(self, reply: Reply) -> list[str]:
        """Return the hops' log lines about a request, as evidence."""
        return list(map(str, self.lines(reply.request_id))) if self.has_logs else []

    # What counts, and at which hop.

    def difference(self, request: Request, who: Identity | None, in_what: Callable[[Reply], object], route: Route) -> Reply | None:
        """Return the reply on a route if a property differs from that of two equal answers of MLflow's own."""
        reply, direct = self.ask(route, request, who), self.ask_directly(request)
        if direct is None or in_what(reply) == in_what(direct):
            return None
        replies = [self.again(reply.question), self.again(direct.question)]
        return replies[0] if in_what(direct) == in_what(replies[1]) != in_what(replies[0]) else None

    def reproduced(self, test: Callable[[Route], Reply | None], route: Route) -> Reply | None:
        """Return the wrong reply if the test finds one each time. Intermittent problems are other causes."""
        if not (shown := test(route)):
            return None
        with self.looking_again():
            return shown if test(route) else None

    def wrong(self, test: Callable[[Route], Reply | None], *, on_each: bool = False) -> list[Reply]:
        """Return the wrong replies, one for each route on which the test finds one and a good key gets through.

        The first route has the most hops. The others are tested only if the problem shows there, or with ``on_each``: another hop
        may close a hole on one of them.
        """
        shown: list[Reply] = []
        if not self.open_routes:
            self.lack(NEEDS_ADMISSION)
        for route in self.open_routes:
            if reply := self.reproduced(test, route):
                shown.append(reply)
            elif not on_each and not shown:
                break
        return shown

    def behind(self, affected: Iterable[Route], hop: str = "proxy") -> tuple[str, ...]:
        """Return the hops at which a problem on these routes may be: the edge, if only the route through it is affected.

        ``hop`` is the answer otherwise. With a single route, which may start anywhere in front of the proxy, it cannot be told.
        """
        names = {route.name for route in affected}
        if len(self.target.routes) == 1:
            return (hop,) if names == {PROXY_ROUTE} else together("edge", "proxy", hop)
        return ("edge",) if names == {EDGE_ROUTE} else (hop,)

    # Time, and the end.

    def respect_limits(self, refused: Sequence[Reply], asked: Iterable[Question]) -> None:
        """If there are such refusals, ask one question at a time from now on, and treat questions refused like that as not asked.

        Questions that were already refused like that can be asked again.
        """
        if not refused:
            return
        self.limit_statuses = frozenset(reply.status for reply in refused)
        self._prober.slow_down()
        for name in (named(question, self.secrets) for question in asked):
            if self.is_live and self._observed[name].result().status in self.limit_statuses:
                del self._observed[name], self.recording.observations[name]

    def write(self, file: Path) -> None:
        """Write all observations, without keys. Raises ReportError."""
        try:
            self.recording.write(file, self.secrets)
        except OSError as error:
            raise ReportError(file, error) from None

    def has_seconds(self, seconds: float) -> bool:
        """Tell whether that much time is left."""
        return self.observe(f"has {seconds:g} s left{self._new_suffix()}", lambda: self._prober.seconds_left >= seconds)

    def keeping(self, seconds: float) -> AbstractContextManager[None]:
        """Within the block, keep that much of the time for what is asked after it."""
        return self._prober.keeping(seconds)

    def at_end(self, action: Callable[[], None]) -> None:
        """Register a function to be called at the end of the diagnosis."""
        with self._lock:
            self._at_end.append(action)

    def close(self) -> None:
        """Remove everything that was created."""
        while self._at_end:
            self._at_end.pop()()


def _burst_refusals(facts: Facts) -> list[Reply]:
    """Ask what everything else depends on, and then send many calls at once. If there is a limit, continue slowly."""
    everybody = [facts.question(route, READ, carrier=carrier) for route in facts.target.routes for carrier in facts.target.carriers]
    nobody = [Question(route, READ) for route in facts.target.routes]
    directly = [Question(facts.target.direct, READ)] if facts.target.direct else []
    facts.replies([*everybody, *nobody, *directly])
    refused: list[Reply] = []
    rate = facts.target.limits.requests_per_second
    for route in facts.routes if rate is None or rate >= BURST else ():
        if not (reply := _refused_in_burst(facts, route)):
            break  # the first route crosses the most hops: what it lets through, the others do, too
        refused.append(reply)
    facts.respect_limits(refused, [*everybody, *nobody])
    return refused


def _refused_in_burst(facts: Facts, route: Route) -> Reply | None:
    """Return a call that is refused as one of many but answered alone. Not tried on a route that is slow, or refuses every call."""
    single = facts.ask(route, READ)
    if not (single.works or single.status in LIMIT_STATUSES) or single.seconds > timeouts.NO_TIME_OUT:
        return None
    try:
        replies = facts.replies(facts.question(route, READ.marked(facts.token())) for _ in range(BURST))
        refused = next((reply for reply in replies if reply.status in LIMIT_STATUSES and not reply.error_code), None)
        if not refused or not any(reply.works for reply in replies):
            return None
        return refused if all(facts.after_pause(refused.question).works for _ in range(SINGLE_CALLS)) else None
    except NotAskedError:
        return None


def _broken(facts: Facts) -> list[Route]:
    facts.once(_burst_refusals)
    return [route for route in facts.target.routes if not all(reply.works for reply in facts.good(route))]


def together(*hops: str) -> tuple[str, ...]:
    """Return hops without repetition, in the order in which a request crosses them."""
    return tuple(hop for hop in HOPS if hop in hops)


def _direct(facts: Facts) -> Route | None:
    if not (direct := facts.target.direct):
        return None
    return None if facts.reply(Question(direct, READ)).failure in ("unresolved", "unreachable") else direct


def _stranger(control: Identity) -> Identity | None:
    """Return an identity whose key looks like a good one but was never issued, so that it has to be looked up."""
    if control.key is None:
        return None
    key = control.key.reveal()
    form = COMMON.match(key)
    at = form.end() if form else 0
    made_up = "".join(random.choice(next((kind for kind in KINDS if each in kind), each)) for each in key[at:])
    return Identity("a stranger", key=Secret(key[:at] + made_up), carrier=control.carrier)
