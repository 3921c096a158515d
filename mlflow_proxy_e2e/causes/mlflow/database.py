"""MLflow's database."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import ALL

# What writes, or needs what another has written: all but reads of what does not exist, and of pages.
WRITES = r"^(?!.*::test_\w*(unknown|asset|health|page|version))."

CAUSES = (
    Cause(
        id=CauseId("database-missing"),
        hop="mlflow",
        severity="down",
        symptom="MLflow does not start",
        what="the database that --backend-store-uri names cannot be opened",
        remedy="create the database, or correct the name",
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("database-down"),
        hop="mlflow",
        severity="down",
        symptom="500 or 503 from MLflow on every call that needs its database",
        what="MLflow does not reach its database",
        remedy="start the database, or correct --backend-store-uri",
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("database-read-only"),
        hop="mlflow",
        severity="down",
        symptom="503 on every write, while reads work",
        what="MLflow may not write to its database: a read-only volume, a replica, a user without write permission",
        remedy="grant write access, or name the database that accepts writes",
        reddens=(WRITES,),
    ),
    Cause(
        id=CauseId("database-locked"),
        hop="mlflow",
        severity="down",
        symptom="503 on every write after twenty seconds, while reads work",
        what="another process holds the lock on MLflow's SQLite database",
        remedy="end that process; use a database made for concurrent writers",
        reddens=(WRITES,),
    ),
)
