"""How MLflow is served: whether it answers at all, by which server, and which version it is."""

from __future__ import annotations

import http.client
from collections.abc import Callable

from packaging.version import Version

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import ALL, OPEN_CONNECTIONS, OTLP, VERSION_3
from mlflow_proxy_e2e.endpoints.served import NEEDED, as_served
from mlflow_proxy_e2e.facts.comparisons import by_mlflow
from mlflow_proxy_e2e.facts.facts import READ, Facts
from mlflow_proxy_e2e.facts.outage import mlflow_away, only_without_logs, unanswered_by_mlflow
from mlflow_proxy_e2e.facts.question import Reply
from mlflow_proxy_e2e.facts.sandbox import SPANS, sandbox
from mlflow_proxy_e2e.facts.sign import NO, Reading, Shows, Sign
from mlflow_proxy_e2e.facts.stopped import failing_mlflow, mlflow_unknown, own_words, slow, status
from mlflow_proxy_e2e.target import Route
from mlflow_proxy_e2e.version import NUMBER, VERSION, installed
from mlflow_proxy_e2e.wire import Request, Wire

SMALL = b"x"


def directly(test: Callable[[Reply], bool]) -> Sign:
    """Return the sign that MLflow itself does not answer a read as it should, but with such a reply."""

    def read(facts: Facts) -> Reading:
        failing = failing_mlflow(facts)
        if failing is None or not test(failing):
            return NO
        health = facts.ask_hop("mlflow") if failing.status else None  # a silent server would be waited for twice
        return Reading(Shows.YES, tuple(filter(None, (failing, health))), ("mlflow",))

    return Sign(read)


def _kept_waiting(facts: Facts) -> Reading:
    """MLflow answers nobody while one client sends slowly."""
    own = sandbox(facts)
    if not facts.direct or not own or not own.is_there or "artifacts" not in facts.target.capabilities:
        return NO
    usual = facts.ask_directly(READ)
    if usual is None or usual.seconds >= timeouts.KEPT_WAITING:
        return NO
    slow_upload = Request("PUT", f"{own.artifacts}/slow.bin", body=SMALL * 100)
    if not facts.observe("a read waits for an upload", lambda: _waits(facts.direct, slow_upload)):
        return NO
    meanwhile = f"the same, while somebody else's upload was going on: no answer within {timeouts.KEPT_WAITING:g} s"
    return Reading(Shows.YES, (usual, meanwhile), ("mlflow",))


def _waits(route: Route | None, slow_upload: Request) -> bool:
    assert route
    with Wire(route) as theirs, Wire(route, timeout=timeouts.KEPT_WAITING) as ours:
        try:
            theirs.send(theirs.encode(slow_upload)[:-50])
            ours.ask(READ)
        except TimeoutError:
            return True
        except (OSError, http.client.HTTPException):
            return False  # other signs say why
    return False


def _native_routes(facts: Facts) -> Reading:
    spans = facts.ask_directly(SPANS) if facts.open_routes else None
    missing = spans and spans.status == 404 and "otlp" in facts.once(served_capabilities)
    return Reading(Shows.YES, (spans,), ("mlflow",)) if missing else NO


def served_capabilities(facts: Facts) -> frozenset[str]:
    """Return the capabilities that the target promises and its MLflow has."""
    return frozenset(facts.observe("capabilities that MLflow has", lambda: sorted(as_served(facts.target).capabilities)))


def _too_old(facts: Facts) -> Reading:
    """MLflow is older than the client here, and lacks something that the target promises."""
    if not facts.open_routes:
        return NO
    client = facts.observe("version of the client", installed)
    version = facts.ask_mlflow(facts.open_routes[0], VERSION)
    number = number_in(version)
    if number is None or Version(number) >= Version(client):
        return NO
    promised = (name for name in NEEDED if name in facts.once(served_capabilities))
    calls = (endpoint.call() for name in promised for endpoint in NEEDED[name])
    replies = (facts.ask_mlflow(facts.open_routes[0], call) for call in calls)
    if not (lacking := next((reply for reply in replies if by_mlflow(reply)), None)):
        return NO
    return Reading(Shows.YES, (version, lacking, f"MLflow's client here is of version {client}"), ("mlflow",))


def number_in(reply: Reply) -> str | None:
    """Return the MLflow version in a reply, or None."""
    said = NUMBER.fullmatch(reply.body) if reply.status == 200 else None
    return said[0].decode() if said else None


silent = (unanswered_by_mlflow & mlflow_unknown) | (mlflow_away & slow & mlflow_unknown & only_without_logs)
gateway_says_away = mlflow_away & ~own_words & ~slow & status(502, 503) & mlflow_unknown
UNNAMED = (("MLflow itself does not answer a read as it should", directly(lambda _: True)),)


CAUSES = (
    Cause(
        id=CauseId("mlflow-down"),
        hop="mlflow",
        severity="down",
        symptom="502 at once on every call",
        what="MLflow is not running",
        remedy="start MLflow, and look in its log for why it stopped",
        shows=directly(lambda reply: reply.failure == "refused") | gateway_says_away.located("proxy", "mlflow"),
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("mlflow-silent"),
        hop="mlflow",
        severity="down",
        symptom="504 on every call, always after the same time",
        what="MLflow accepts connections but never answers: it hangs",
        remedy="restart MLflow, and look in its log for what it hangs on",
        reports=("mlflow#21470",),
        shows=directly(lambda reply: reply.failure in ("unreachable", "unanswered")) | silent.located("proxy", "mlflow"),
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("native-routes-missing"),
        hop="mlflow",
        severity="down",
        symptom="404 from MLflow on traces sent by OpenTelemetry",
        what="MLflow is served by gunicorn, which lacks its newer endpoints",
        remedy="run MLflow without --gunicorn-opts",
        shows=Sign(_native_routes),
        reddens=(
            OTLP,
            r"test_ui\.py::test_search_jobs",
            r"test_gateway\.py",
        ),
    ),
    Cause(
        id=CauseId("too-few-workers"),
        hop="mlflow",
        severity="down",
        symptom="calls wait until another client's large upload is done",
        what="MLflow has a single worker that handles one request at a time",
        remedy="run MLflow with more workers or threads",
        shows=Sign(_kept_waiting, timeouts.KEPT_WAITING),
        explains=(CauseId("edge-keep-alive-off"), CauseId("keep-alive-off"), CauseId("native-routes-missing")),
        reddens=(
            r"test_slow_calls\.py::test_others_during_upload",
            *OPEN_CONNECTIONS,
            OTLP,
        ),
    ),
    Cause(
        id=CauseId("client-skew"),
        hop="mlflow",
        severity="down",
        symptom="404 on logged models, and on other features that are newer than the server",
        what="MLflow is older than its clients, and lacks endpoints that they call",
        remedy="upgrade the server, or have clients use its version",
        reports=("mlflow#16215",),
        shows=Sign(_too_old),
        explains=(CauseId("native-routes-missing"),),
        reddens=(
            *VERSION_3,
            OTLP,
            r"logged_model|test_(model_registration|prompts|webhooks)\.py|::test_(load|register)_model",
        ),
    ),
)
