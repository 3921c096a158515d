"""MLflow's database."""

from __future__ import annotations

from collections.abc import Callable

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.mlflow.serving import directly
from mlflow_proxy_e2e.causes.patterns import ALL
from mlflow_proxy_e2e.facts.facts import Facts, together
from mlflow_proxy_e2e.facts.question import Reply
from mlflow_proxy_e2e.facts.sandbox import sandbox
from mlflow_proxy_e2e.facts.sign import NO, UNTOLD, Reading, Shows, Sign
from mlflow_proxy_e2e.facts.stopped import stops


def not_created(test: Callable[[Reply], bool], *, directly: bool = True) -> Sign:
    """Return the sign that MLflow fails to create an experiment, or a run in it, with such an answer.

    ``directly``: whether MLflow itself was asked.
    """

    def read(facts: Facts) -> Reading:
        own = sandbox(facts) if facts.open_routes else None
        if own is None or own.is_there or directly is not (facts.direct is not None) or not test(own.failed):
            return NO
        hops = ("mlflow",) if directly else together(*facts.behind([own.failed.question.route]), "auth", "mlflow")
        return Reading(Shows.YES, (own.failed, *facts.trace(own.failed)), hops)

    return Sign(read)


def _is_read_only(reply: Reply) -> bool:
    return b"readonly" in reply.body.lower() or b"read-only" in reply.body.lower()


def _is_locked(reply: Reply) -> bool:
    return not _is_read_only(reply) and (b"locked" in reply.body.lower() or reply.failure == "unanswered")


def _is_without_database(reply: Reply) -> bool:
    return (reply.status or 0) >= 500 and bool(reply.error_code) and b"database" in reply.body.lower()


database_words = stops(lambda _, seen: _is_without_database(seen.reply))
UNNAMED = (
    ("MLflow does not create an experiment", not_created(lambda _: True)),
    ("the experiment that further questions need cannot be created", not_created(lambda _: True, directly=False)),
)


# Tests that write, or that need what another call has written: all but reads of missing things, and of pages.
WRITES = r"^(?!.*::test_\w*(unknown|asset|health|page|version))."

CAUSES = (
    Cause(
        id=CauseId("database-missing"),
        hop="mlflow",
        severity="down",
        symptom="MLflow does not start",
        what="the database that --backend-store-uri names cannot be opened",
        remedy="create the database, or correct the name",
        shows=UNTOLD,
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("database-down"),
        hop="mlflow",
        severity="down",
        symptom="500 or 503 from MLflow on every call that needs its database",
        what="MLflow cannot reach its database",
        remedy="start the database, or correct --backend-store-uri",
        shows=directly(_is_without_database) | database_words.located("mlflow"),
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("database-read-only"),
        hop="mlflow",
        severity="down",
        symptom="503 on every write, while reads work",
        what="MLflow cannot write to its database: a read-only volume, a replica, a user without write permission",
        remedy="grant write access, or name the database that accepts writes",
        shows=not_created(_is_read_only),
        reddens=(WRITES,),
    ),
    Cause(
        id=CauseId("database-locked"),
        hop="mlflow",
        severity="down",
        symptom="503 on every write after twenty seconds, while reads work",
        what="another process holds the lock on MLflow's SQLite database",
        remedy="end that process; use a database made for concurrent writers",
        shows=not_created(_is_locked),
        reddens=(WRITES,),
    ),
)
