"""Bodies that are dropped, cut off or changed on the way."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import CONVERSATIONS, ENDPOINTS, LARGE_DOWNLOADS, LARGE_UPLOADS

UNCHANGED = "pass bodies through unchanged"

CAUSES = (
    Cause(
        id=CauseId("delete-body-dropped"),
        hop="proxy",
        severity="down",
        symptom="400 on deletions in the model registry",
        what="the proxy drops the body of DELETE requests",
        remedy="forward the bodies of all methods",
        reddens=(
            r"test_(registered_models|prompts|scorers|datasets)\.py::test_\w*delete",
            r"test_patch_and_delete_with_body",
            r"denied_write\[.*-delete",
        ),
    ),
    Cause(
        id=CauseId("json-rewritten"),
        hop="proxy",
        severity="contract",
        symptom="answers differ from MLflow's byte by byte",
        what="the proxy parses JSON and writes it again",
        remedy=UNCHANGED,
        reddens=(
            CONVERSATIONS,
            ENDPOINTS,
            r"test_fidelity_(json\.py::test_answer|transfer\.py::test_(coded_answer|head|conditional))",
            r"test_(gateway|graphql)\.py",
            r"::test_(get_run|get_webhook)",
            r"test_ui\.py::test_(asset|start_page)",
        ),
    ),
    Cause(
        id=CauseId("big-numbers-rounded"),
        hop="proxy",
        severity="loss",
        symptom="the last digits of long numbers are lost",
        what="the proxy parses JSON with double-precision numbers and writes it again",
        remedy=UNCHANGED,
        reddens=(r"test_fidelity_json\.py::test_(metrics|answer)",),
    ),
    Cause(
        id=CauseId("nan-nulled"),
        hop="proxy",
        severity="loss",
        symptom="metrics with the value NaN are refused",
        what="the proxy parses the JSON that it forwards with a parser that does not know NaN",
        remedy=UNCHANGED,
        reddens=(r"test_fidelity_json\.py::test_(bare_word\[.*-NaN|metrics)",),
    ),
    Cause(
        id=CauseId("http10-downgrade"),
        hop="proxy",
        severity="loss",
        symptom="some uploads and downloads succeed but are empty",
        what="the proxy speaks HTTP/1.0 to MLflow, so that bodies without a declared length are lost",
        remedy="use HTTP/1.1 for the upstream",
        reports=("mlflow#25009",),
        reddens=(
            r"test_chunked_upload|test_odd_upload\[.*(chunk|trailers)|gzip-in-chunks",
            r"test_(artifacts|model_registration|logged_model_artifacts|own_client)\.py",
        ),
    ),
    Cause(
        id=CauseId("answer-cut"),
        hop="proxy",
        severity="loss",
        symptom="large downloads succeed, but their end is missing",
        what="the proxy buffers up to a megabyte of an answer and drops the rest",
        remedy="stream answers",
        reddens=(*LARGE_DOWNLOADS,),
    ),
    Cause(
        id=CauseId("body-cut"),
        hop="proxy",
        severity="loss",
        symptom="large uploads succeed, but their end is missing",
        what="the proxy buffers up to a megabyte of a request and drops the rest",
        remedy="stream requests",
        reddens=(*LARGE_UPLOADS,),
    ),
    Cause(
        id=CauseId("content-recoded"),
        hop="proxy",
        severity="contract",
        symptom="answers arrive compressed, without the ETag that clients cache by",
        what="the proxy compresses what MLflow sends uncompressed",
        remedy="leave the content coding of answers to MLflow",
        reddens=(
            r"test_fidelity_transfer\.py::test_(coded_answer|conditional|head|range)",
            r"test_ui\.py",
        ),
    ),
    Cause(
        id=CauseId("request-decompressed"),
        hop="proxy",
        severity="loss",
        symptom="files that are uploaded compressed are stored uncompressed",
        what="the proxy decompresses request bodies",
        remedy="pass compressed bodies through",
        reddens=(r"test_fidelity_transfer\.py::test_(odd_upload|coded_request)\[.*gzip",),
    ),
)
