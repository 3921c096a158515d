"""Bodies that are dropped, cut off or changed on the way."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId

UNCHANGED = "pass bodies through unchanged"

CAUSES = (
    Cause(
        id=CauseId("delete-body-dropped"),
        hop="proxy",
        severity="down",
        symptom="400 on deletions in the model registry",
        what="the proxy drops the body of DELETE requests",
        remedy="forward the bodies of all methods",
        reddens=(r"delete",),
    ),
    Cause(
        id=CauseId("json-rewritten"),
        hop="proxy",
        severity="contract",
        symptom="answers differ from MLflow's byte by byte",
        what="the proxy parses JSON and writes it again",
        remedy=UNCHANGED,
        reddens=(r"conversation",),
    ),
    Cause(
        id=CauseId("big-numbers-rounded"),
        hop="proxy",
        severity="loss",
        symptom="the last digits of long numbers are lost",
        what="the proxy parses JSON with double-precision numbers and writes it again",
        remedy=UNCHANGED,
        reddens=(r"test_fidelity_json\.py::test_metrics",),
    ),
    Cause(
        id=CauseId("nan-nulled"),
        hop="proxy",
        severity="loss",
        symptom="metrics with the value NaN are refused",
        what="the proxy parses the JSON that it forwards with a parser that does not know NaN",
        remedy=UNCHANGED,
        reddens=(r"NaN",),
    ),
    Cause(
        id=CauseId("http10-downgrade"),
        hop="proxy",
        severity="loss",
        symptom="some uploads and downloads succeed but are empty",
        what="the proxy speaks HTTP/1.0 to MLflow, so that bodies without a declared length are lost",
        remedy="use HTTP/1.1 for the upstream",
        reports=("mlflow#25009",),
        reddens=(r"chunked",),
    ),
    Cause(
        id=CauseId("answer-cut"),
        hop="proxy",
        severity="loss",
        symptom="large downloads succeed, but their end is missing",
        what="the proxy buffers up to a megabyte of an answer and drops the rest",
        remedy="stream answers",
        reddens=(r"artifacts",),
    ),
    Cause(
        id=CauseId("body-cut"),
        hop="proxy",
        severity="loss",
        symptom="large uploads succeed, but their end is missing",
        what="the proxy buffers up to a megabyte of a request and drops the rest",
        remedy="stream requests",
        reddens=(r"artifacts",),
    ),
    Cause(
        id=CauseId("content-recoded"),
        hop="proxy",
        severity="contract",
        symptom="answers arrive compressed, without the ETag that clients cache by",
        what="the proxy compresses what MLflow sends uncompressed",
        remedy="leave the content coding of answers to MLflow",
        reddens=(r"coded",),
    ),
    Cause(
        id=CauseId("request-decompressed"),
        hop="proxy",
        severity="loss",
        symptom="files that are uploaded compressed are stored uncompressed",
        what="the proxy decompresses request bodies",
        remedy="pass compressed bodies through",
        reddens=(r"gzip",),
    ),
)
