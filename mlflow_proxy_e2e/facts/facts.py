"""The facts about one target: each is observed once, when somebody first asks for it, and recorded under a name of its own.

Whatever is concluded is a function of these observations alone, so that the same conclusions can be drawn from a recording.
"""

from __future__ import annotations

import re
import secrets as random
import string
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

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

EDGE_ROUTE, PROXY_ROUTE = "external", "internal"  # the one crosses the edge, the other begins behind it
HOPS = ("client", "edge", "proxy", "auth", "mlflow")  # in the order in which a request crosses them
COMMON = re.compile(r"(?:[a-z]{1,6}[_-]){1,2}|[^:]*:")  # what all keys of a kind begin with, such as "sk_live_", or a user's name
KINDS = (string.ascii_lowercase, string.ascii_uppercase, string.digits)
READ = Request("GET", "/api/2.0/mlflow/experiments/search?max_results=1")
FAILED = "what has failed"  # the name under which a recording has what was known before anything was asked
TOKENS = uuid.UUID("3f0d7c1e-9a53-4c6f-8f8e-2d1b6a7c5e90")  # the namespace of words that nobody else has


class _Context(threading.local):
    """On whose behalf this thread asks, and for the how-manieth time."""

    scope = ""
    look = 0
    count = 0


class Facts:
    """What can be observed of a target. Safe to use from several threads.

    Args:
        target: what is asked.
        suspected: the route on which tests have failed, if it is one.
        about: the subjects of what has failed, which is asked about first.
        recording: what was observed before. Then nothing is asked: what it does not have is not known.
    """

    def __init__(
        self, target: Target, suspected: str | None = None, about: Iterable[str] = (), recording: Recording | None = None
    ) -> None:
        self.target = target
        # What is wrong on any route shows on the one that crosses most hops, unless the tests that have failed say otherwise.
        self.routes = tuple(sorted(target.routes, key=lambda route: (route.name != suspected, route.name != EDGE_ROUTE)))
        self.about = frozenset(about)
        self.control = target.insider
        self.stranger = _stranger(self.control)
        contract = target.contract
        self.refusals = (contract.unauthenticated, contract.forbidden, contract.throttled)
        self.is_live = recording is None
        self.recording = recording or Recording(target)
        self.secrets: list[Secret] = list(target.secrets)
        self._prober = Prober()
        self._lock = threading.Lock()
        self._observed: dict[str, Future[Any]] = {}
        self._context = _Context()
        self._seed = self.observe("seed", lambda: uuid.uuid4().hex)
        self._at_end: list[Callable[[], None]] = []
        if self.is_live:
            self.recording.observations[FAILED] = {"route": suspected, "about": sorted(self.about)}

    @classmethod
    def recorded(cls, recording: Recording) -> Facts:
        """Return the facts of a recording: nothing is asked."""
        said = recording.observations[FAILED]
        return cls(recording.target, said["route"], said["about"], recording)

    # What is observed, and under which name.

    def observe(self, name: str, live: Callable[[], T]) -> T:
        """Return what is observed under a name, for the first time or before. Raises NotAskedError if nobody can tell."""
        future, is_mine = self._claim(name)
        if is_mine:
            try:
                future.set_result(self._seen(name, live))
            except BaseException as error:
                future.set_exception(error)
        return cast(T, future.result())

    def once(self, conclusion: Callable[[Facts], T]) -> T:
        """Return what is concluded from facts, worked out once however many signs need it."""
        return self.once_as(conclusion.__qualname__, conclusion)

    def once_as(self, name: str, conclusion: Callable[[Facts], T]) -> T:
        """Return the same of a conclusion that has no name of its own."""
        future, is_mine = self._claim(f"concluded {name}")
        if is_mine:
            with self.within(name):
                try:
                    future.set_result(conclusion(self))
                except BaseException as error:
                    future.set_exception(error)
        return cast(T, future.result())

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
    def within(self, scope: str) -> Iterator[None]:
        """Within the block, what this thread observes more than once is kept apart from what others do."""
        context = self._context
        before = context.scope, context.count, context.look
        context.scope, context.count, context.look = scope, 0, 0
        try:
            yield
        finally:
            context.scope, context.count, context.look = before

    @contextmanager
    def looking_again(self) -> Iterator[None]:
        """Within the block, this thread observes everything afresh."""
        self._context.look += 1
        try:
            yield
        finally:
            self._context.look -= 1

    def token(self) -> str:
        """Return a word that nobody has used before."""
        self._context.count += 1
        return uuid.uuid5(TOKENS, f"{self._seed} {self._context.scope} {self._context.look} {self._context.count}").hex

    # Questions to the target.

    def question(self, route: Route, request: Request, who: Identity | None = None, carrier: Carrier | None = None) -> Question:
        """Return a question of the identity that may do as much as anybody, or of another one."""
        return Question(route, request, who or self.control, carrier or self.target.carriers[0])

    def ask(self, route: Route, request: Request, who: Identity | None = None, carrier: Carrier | None = None) -> Reply:
        """Ask it. Raises NotAskedError."""
        return self.reply(self.question(route, request, who, carrier))

    def reply(self, question: Question) -> Reply:
        """Return what comes of a question, or came of it before. Raises NotAskedError."""
        return self._reply(question, f" look {self._context.look}" if self._context.look else "")

    def replies(self, questions: Iterable[Question]) -> list[Reply]:
        """Ask questions at once, and return what comes of each. Raises NotAskedError."""
        suffix = f" look {self._context.look}" if self._context.look else ""
        return self._at_once([(question, suffix) for question in questions])

    def again(self, question: Question) -> Reply:
        """Return what comes of a question that may have been asked before. Raises NotAskedError."""
        return self._reply(question, self._new_suffix())

    def several_times(self, question: Question, times: int) -> list[Reply]:
        """Return what comes of a question, each time on a connection of its own. Raises NotAskedError."""
        return [self.again(question) for _ in range(times)]

    def _new_suffix(self) -> str:
        self._context.count += 1
        return f" again for {self._context.scope} {self._context.look}.{self._context.count}"

    def _at_once(self, questions: Sequence[tuple[Question, str]]) -> list[Reply]:
        return self.at_once(lambda each: self._reply(*each), questions, AT_ONCE)

    def at_once(self, do: Callable[[S], T], things: Sequence[S], most: int) -> list[T]:
        """Do something with several things, so many at once as long as there is anything to wait for."""
        if not self.is_live or len(things) < 2:
            return list(map(do, things))
        with ThreadPoolExecutor(min(most, len(things))) as threads:
            return list(threads.map(do, things))

    def is_decided_otherwise(self, question: Question) -> bool:
        """Tell whether the deployment's policy decides about a call in another way than signs expect: then it shows nothing."""
        request = question.request
        path = request.path.partition("?")[0]
        return question.route in self.target.routes and decided_otherwise(self.target.policy, question.who, request.method, path)

    def read_open(self, route: Route, path: str) -> Reply:
        """Return what anybody gets at a path that needs no key by intent. Raises NotAskedError."""
        return self._send(Question(route, Request("GET", path)), "")

    def _reply(self, question: Question, suffix: str) -> Reply:
        if self.is_decided_otherwise(question):
            raise DecidedOtherwiseError(str(question))
        return self._send(question, suffix)

    def _send(self, question: Question, suffix: str) -> Reply:
        def send() -> Reply:
            return self._prober.send(question, question.request.header("X-Request-ID") or uuid.uuid4().hex)

        return replace(self.observe(named(question, self.secrets) + suffix, send), question=question)

    @property
    def direct(self) -> Route | None:
        """Return the route to MLflow itself, if somebody answers there: a closed way says nothing about MLflow."""
        return self.once(_direct)

    def ask_directly(self, request: Request) -> Reply | None:
        """Ask MLflow itself, where it can be reached. Raises NotAskedError."""
        return self.reply(Question(self.direct, request)) if self.direct else None

    def ask_hop(self, name: str, request: Request | None = None, who: Identity | None = None) -> Reply | None:
        """Ask a hop by itself, by default for its health, if it is known where it is. Raises NotAskedError."""
        for hop in self.target.hops:
            if hop.name == name and hop.url:
                return self.reply(Question(Route(name, hop.url, hop.ca), request or Request("GET", hop.health), who))
        return None

    # Who gets through.

    def good(self, route: Route) -> list[Reply]:
        """Return what a good key gets on a route, sent in each way in which it can be. Raises NotAskedError."""
        return self.replies(self.question(route, READ, carrier=carrier) for carrier in self.target.carriers)

    @property
    def broken(self) -> list[Route]:
        """Return the routes on which a good key does not get through, however it is sent. Raises NotAskedError."""
        return self.once(_broken)

    @property
    def open_routes(self) -> list[Route]:
        """Return the routes on which a good key gets through, sent as it usually is. Raises NotAskedError."""
        broken = self.broken
        return [route for route in self.routes if route not in broken or self.ask(route, READ).works]

    # Logs, where the stack is ours.

    @property
    def has_logs(self) -> bool:
        """Tell whether the hops' logs can be read."""
        return bool(self.target.hops)

    def lines(self, request_id: str) -> list[LogLine]:
        """Return what the hops' logs say of a request, in the order of the hops. Raises NotAskedError."""
        return self._lines(f"log {request_id}", lambda: lines_about(request_id, self.target.hops))

    def lines_at(self, hop: str, request_id: str) -> list[LogLine]:
        """Return the same of one hop, or of the several servers of that hop."""
        return [line for line in self.lines(request_id) if line.hop.partition("-")[0] == hop] if self.has_logs else []

    def lines_with(self, texts: Sequence[str], hops: Sequence[str], name: str) -> list[LogLine]:
        """Return the lines of some hops' logs that have such a text in them now: under a name, since texts may be keys."""
        asked: list[Hop] = [hop for hop in self.target.hops if hop.name in hops]
        return self._lines(f"log with {name} at {' '.join(hops)}{self._new_suffix()}", lambda: lines_with(texts, asked))

    def _lines(self, name: str, live: Callable[[], list[LogLine]]) -> list[LogLine]:
        return [LogLine(*each) for each in self.observe(name, lambda: [[line.hop, line.line] for line in live()])]

    def said(self, reply: Reply, hop: str, field: str) -> list[str]:
        """Return what a hop's log has in a field of the lines about a request."""
        return [str(line.said.get(field, "")) for line in self.lines_at(hop, reply.request_id)]

    def trace(self, reply: Reply) -> list[str]:
        """Return what the hops' logs say of a request, as evidence."""
        return list(map(str, self.lines(reply.request_id))) if self.has_logs else []

    # What counts, and where it is.

    def difference(self, request: Request, who: Identity | None, in_what: Callable[[Reply], object], route: Route) -> Reply | None:
        """Return the reply on a route if something about it is not as in MLflow's own: as in two of its own that are equal."""
        reply, direct = self.ask(route, request, who), self.ask_directly(request)
        if direct is None or in_what(reply) == in_what(direct):
            return None
        replies = [self.again(reply.question), self.again(direct.question)]
        return replies[0] if in_what(direct) == in_what(replies[1]) != in_what(replies[0]) else None

    def reproduced(self, test: Callable[[Route], Reply | None], route: Route) -> Reply | None:
        """Return the reply that shows that something is wrong, if it shows each time: what is so now and then is something else."""
        if not (shown := test(route)):
            return None
        with self.looking_again():
            return shown if test(route) else None

    def wrong(self, test: Callable[[Route], Reply | None], *, on_each: bool = False) -> list[Reply]:
        """Return the replies that show that something is wrong, of each route on which it does and a good key gets through.

        The first route crosses most hops: what does not show there is asked of the others only ``on_each``, since another hop may
        close a hole on one of them.
        """
        shown: list[Reply] = []
        for route in self.open_routes:
            if reply := self.reproduced(test, route):
                shown.append(reply)
            elif not on_each and not shown:
                break
        return shown

    def behind(self, affected: Iterable[Route], hop: str = "proxy") -> tuple[str, ...]:
        """Return where something sits that is wrong on these routes: at the edge if only on the one that crosses it.

        ``hop`` is where it sits otherwise. With a single route, which may begin anywhere in front of the proxy, nobody can tell.
        """
        names = {route.name for route in affected}
        if len(self.target.routes) == 1:
            return (hop,) if names == {PROXY_ROUTE} else together("edge", "proxy", hop)
        return ("edge",) if names == {EDGE_ROUTE} else (hop,)

    # Time, and the end.

    def write(self, file: Path) -> None:
        """Write everything that was observed, without keys. Raises ReportError."""
        try:
            self.recording.write(file, self.secrets)
        except OSError as error:
            raise ReportError(file, error) from None

    def has_seconds(self, seconds: float) -> bool:
        """Tell whether there is so much time left."""
        return self.observe(f"has {seconds:g} s left{self._new_suffix()}", lambda: self._prober.seconds_left >= seconds)

    def keeping(self, seconds: float) -> AbstractContextManager[None]:
        """Within the block, so much of the time is kept for what is asked after it."""
        return self._prober.keeping(seconds)

    def at_end(self, action: Callable[[], None]) -> None:
        """Have something done when the diagnosis is over."""
        with self._lock:
            self._at_end.append(action)

    def close(self) -> None:
        """Remove what was created."""
        while self._at_end:
            self._at_end.pop()()


def _broken(facts: Facts) -> list[Route]:
    everybody = [facts.question(route, READ, carrier=carrier) for route in facts.target.routes for carrier in facts.target.carriers]
    nobody = [Question(route, READ) for route in facts.target.routes]
    directly = [Question(facts.target.direct, READ)] if facts.target.direct else []
    facts.replies([*everybody, *nobody, *directly])
    return [route for route in facts.target.routes if not all(reply.works for reply in facts.good(route))]


def together(*hops: str) -> tuple[str, ...]:
    """Return several hops, each once, in the order in which a request crosses them."""
    return tuple(hop for hop in HOPS if hop in hops)


def _direct(facts: Facts) -> Route | None:
    if not (direct := facts.target.direct):
        return None
    return None if facts.reply(Question(direct, READ)).failure in ("unresolved", "unreachable") else direct


def _stranger(control: Identity) -> Identity | None:
    """Return somebody whose key looks like a good one and is none, so that whoever checks keys has to look it up."""
    if control.key is None:
        return None
    key = control.key.reveal()
    form = COMMON.match(key)
    at = form.end() if form else 0
    made_up = "".join(random.choice(next((kind for kind in KINDS if each in kind), each)) for each in key[at:])
    return Identity("a stranger", key=Secret(key[:at] + made_up), carrier=control.carrier)
