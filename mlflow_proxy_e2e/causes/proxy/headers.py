"""Headers that are dropped, added or changed, and connections that are closed."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import COMPARED, CONVERSATIONS, ENDPOINTS, OPEN_CONNECTIONS

FORWARD_ALL = "forward all request headers except the proxy's own"

CAUSES = (
    Cause(
        id=CauseId("range-dropped"),
        hop="proxy",
        severity="contract",
        symptom="resumed downloads start from the beginning",
        what="the proxy does not forward Range",
        remedy=FORWARD_ALL,
        reddens=(
            r"test_fidelity_transfer\.py::test_range",
            r"test_conditional_request\[.*range",
            r"test_download_part",
        ),
    ),
    Cause(
        id=CauseId("conditions-dropped"),
        hop="proxy",
        severity="contract",
        symptom="pages are sent again although nothing has changed",
        what="the proxy does not forward If-None-Match and If-Modified-Since",
        remedy=FORWARD_ALL,
        reddens=(
            r"test_conditional_request\[.*(none|modified)",
            r"test_ui\.py::test_not_modified",
        ),
    ),
    Cause(
        id=CauseId("disposition-dropped"),
        hop="proxy",
        severity="contract",
        symptom="downloads from MLflow's pages have no file name",
        what="the proxy drops Content-Disposition from answers",
        remedy="pass all response headers through",
        reddens=(
            r"test_names_in_headers",
            r"test_fidelity_transfer\.py::test_(head|range)",
            r"test_ui_artifacts\.py::test_download",
            rf"{CONVERSATIONS}\[.*artifacts",
        ),
    ),
    Cause(
        id=CauseId("charset-changed"),
        hop="proxy",
        severity="contract",
        symptom="non-ASCII names are garbled in some clients",
        what="the proxy declares a character set that MLflow did not",
        remedy="pass Content-Type through unchanged",
        reddens=(
            *COMPARED,
            ENDPOINTS,
        ),
    ),
    Cause(
        id=CauseId("cors-opened"),
        hop="proxy",
        severity="open",
        symptom="any web page can read what MLflow answers to the page's visitors",
        what="the proxy allows every origin",
        remedy="leave MLflow's CORS headers unchanged",
        reddens=(
            *COMPARED,
            r"test_no_answer_is_for_others_pages",
        ),
    ),
    Cause(
        id=CauseId("origin-403"),
        hop="proxy",
        severity="down",
        symptom="403 on writes from browsers and notebooks, while clients can write",
        what="the proxy forwards Origin, and MLflow refuses writes from origins that it does not know",
        remedy="remove Origin from forwarded requests, or list the origins in --cors-allowed-origins",
        reddens=(r"test_ui\.py::test_write_of_page",),
    ),
    Cause(
        id=CauseId("keep-alive-off"),
        hop="proxy",
        severity="hardening",
        symptom="every call is slow to start",
        what="the proxy closes the connection after each answer",
        remedy="let clients keep their connections open",
        reddens=(*OPEN_CONNECTIONS,),
    ),
)
