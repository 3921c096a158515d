"""Files that a content delivery network caches by their extension, in front of the service that checks keys."""

from __future__ import annotations

from collections.abc import Iterable

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import external
from mlflow_proxy_e2e.causes.snippets import UNCACHED
from mlflow_proxy_e2e.facts.comparisons import in_sandbox
from mlflow_proxy_e2e.facts.facts import Facts
from mlflow_proxy_e2e.facts.question import Question, Reply
from mlflow_proxy_e2e.facts.sandbox import Sandbox
from mlflow_proxy_e2e.facts.sign import NO, Reading, Shows, Sign, needing, shared
from mlflow_proxy_e2e.target import Route
from mlflow_proxy_e2e.wire import Request

ENDINGS = (".png", ".zip")  # every such network treats these as files that rarely change
OLD, NEW = b"old", b"new"


def _kept_file(facts: Facts, route: Route, own: Sandbox) -> Reply | None:
    """Return a file served without a key after a caller with one has read it; or else an overwritten file's old content."""
    names = [f"{own.artifacts}/{facts.token()}{ending}" for ending in ENDINGS]
    reads = [facts.question(route, Request("GET", name)) for name in names]

    def write(content: bytes) -> None:
        facts.replies(Question(facts.direct or route, Request("PUT", name, body=content), by) for name in names)

    by = None if facts.direct else facts.control
    write(OLD)
    facts.replies(reads)
    without_key = facts.replies(Question(route, read.request) for read in reads)
    write(NEW)
    after = [facts.again(read) for read in reads]
    return (_old(without_key) if _is_closed(facts, route, own) else None) or _old(after)


def _old(replies: Iterable[Reply]) -> Reply | None:
    return next((reply for reply in replies if reply.status == 200 and reply.body == OLD), None)


def _is_closed(facts: Facts, route: Route, own: Sandbox) -> bool:
    """Tell whether a caller without a key is refused a file that has not been read yet."""
    unread = Request("GET", f"{own.artifacts}/{facts.token()}{ENDINGS[0]}")
    return facts.reply(Question(route, unread)).status == facts.target.contract.unauthenticated


kept_files = shared("kept files", needing("artifacts") & in_sandbox(_kept_file))


def _kept(*, without_key: bool) -> Sign:
    """Return the sign that files are cached, and served to callers without a key or only to callers with one."""

    def read(facts: Facts) -> Reading:
        reading = kept_files(facts)
        if reading.shows is not Shows.YES:
            return reading
        shown = reading.evidence[0]
        return reading if isinstance(shown, Reply) and (shown.question.who is None) is without_key else NO

    return Sign(read)


CAUSES = (
    Cause(
        id=CauseId("files-cached-for-all"),
        hop="edge",
        severity="open",
        symptom="artifacts that were downloaded once can be downloaded without a key, and overwritten ones keep their old content",
        what="a content delivery network caches files by their URL, and serves them without a check of the key",
        remedy="do not cache below the public prefix",
        shows=_kept(without_key=True),
        reddens=(external(r"test_artifacts\.py::test_(overwrite|download_without_key)"),),
        fixes=UNCACHED,
    ),
    Cause(
        id=CauseId("files-cached"),
        hop="edge",
        severity="loss",
        symptom="an artifact that was overwritten is downloaded with its old content",
        what="a hop caches files by their extension, although MLflow does not declare them cacheable",
        remedy="do not cache below the public prefix",
        shows=_kept(without_key=False),
        reddens=(external(r"test_artifacts\.py::test_overwrite"),),
        fixes=UNCACHED,
    ),
)
