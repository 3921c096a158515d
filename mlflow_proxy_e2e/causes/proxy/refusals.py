"""The shape of refusals and errors: statuses, bodies and headers."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import COMPARED, ERRORS, REFUSALS, THROTTLED, UNAUTHENTICATED

MLFLOWS_SHAPE = "answer in MLflow's format, with error_code and message"

CAUSES = (
    Cause(
        id=CauseId("denial-in-other-shape"),
        hop="proxy",
        severity="contract",
        symptom="the client reports INTERNAL_ERROR for a bad key",
        what="the proxy refuses bad keys in its framework's own format",
        remedy=MLFLOWS_SHAPE,
        reddens=(*UNAUTHENTICATED,),
    ),
    Cause(
        id=CauseId("login-redirect"),
        hop="proxy",
        severity="contract",
        symptom="the client fails on HTML when its key is bad",
        what="the proxy redirects requests without a good key to a login page, as if every client were a browser",
        remedy="answer 401",
        reddens=(*UNAUTHENTICATED,),
    ),
    Cause(
        id=CauseId("challenge-missing"),
        hop="proxy",
        severity="contract",
        symptom="clients are not told how to authenticate",
        what="the proxy's refusals lack WWW-Authenticate",
        remedy="send WWW-Authenticate with every 401",
        reddens=(*UNAUTHENTICATED,),
    ),
    Cause(
        id=CauseId("retry-after-missing"),
        hop="proxy",
        severity="contract",
        symptom="clients over their rate limit retry at once",
        what="the proxy's refusals lack Retry-After",
        remedy="pass on the auth service's Retry-After",
        reddens=(*THROTTLED,),
    ),
    Cause(
        id=CauseId("error-detail"),
        hop="proxy",
        severity="contract",
        symptom="the client reports INTERNAL_ERROR whenever the proxy refuses a call or cannot handle it",
        what="the proxy reports its own errors in its framework's format",
        remedy=MLFLOWS_SHAPE,
        reddens=(*REFUSALS,),
    ),
    Cause(
        id=CauseId("error-html"),
        hop="proxy",
        severity="contract",
        symptom="the client reports INTERNAL_ERROR with an HTML page whenever the proxy refuses a call or cannot handle it",
        what="the proxy reports its own errors as HTML pages",
        remedy=MLFLOWS_SHAPE,
        reddens=(*REFUSALS,),
    ),
    Cause(
        id=CauseId("error-shape"),
        hop="proxy",
        severity="contract",
        symptom="the client reports INTERNAL_ERROR instead of MLflow's error code",
        what="the proxy replaces MLflow's error bodies with a page of its own",
        remedy="pass error bodies through",
        explains=(
            CauseId("denial-in-other-shape"),
            CauseId("error-html"),
            CauseId("error-detail"),
            CauseId("delete-body-dropped"),
            CauseId("query-dropped"),
            CauseId("plus-decoded"),
            CauseId("percent-decoded-twice"),
            CauseId("blank-parameters-dropped"),
        ),
        reddens=(
            *REFUSALS,
            *ERRORS,
            *COMPARED,
        ),
    ),
    Cause(
        id=CauseId("status-rewritten"),
        hop="proxy",
        severity="contract",
        symptom="what is not found is reported as a server error, and retried for minutes",
        what="the proxy answers 500 instead of MLflow's own error statuses",
        remedy="pass statuses through",
        explains=(
            CauseId("denial-in-other-shape"),
            CauseId("error-shape"),
            CauseId("method-filter"),
            CauseId("head-refused"),
        ),
        reddens=(
            *REFUSALS,
            *ERRORS,
            *COMPARED,
            r"test_identities_take_turns",
            r"test_no_log_has_a_key",
        ),
    ),
)
