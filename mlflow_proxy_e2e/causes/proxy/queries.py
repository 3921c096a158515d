"""Queries that do not reach MLflow as they were sent."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId

CAUSES = (
    Cause(
        id=CauseId("query-dropped"),
        hop="proxy",
        severity="down",
        symptom="calls with a query fail, or list everything",
        what="the proxy forwards the path without the query",
        remedy="forward the query string unchanged",
        reddens=(r".",),
    ),
    Cause(
        id=CauseId("query-collapse"),
        hop="proxy",
        severity="loss",
        symptom="part of the data is missing where a parameter is sent several times",
        what="the proxy rebuilds the query and keeps only one value of each parameter",
        remedy="forward the query string unchanged",
        explains=(CauseId("blank-parameters-dropped"),),
        reddens=(r"several_runs",),
    ),
    Cause(
        id=CauseId("blank-parameters-dropped"),
        hop="proxy",
        severity="loss",
        symptom="parameters without a value are lost",
        what="the proxy rebuilds the query without its empty parameters",
        remedy="forward the query string unchanged",
        reddens=(r"blank-and-value",),
    ),
    Cause(
        id=CauseId("plus-decoded"),
        hop="proxy",
        severity="loss",
        symptom="names with a plus sign arrive with a space",
        what="the proxy decodes %2B in the query and does not encode it again",
        remedy="forward the query string unchanged",
        reddens=(r"test_text_in_query",),
    ),
)
