"""What the proxy refuses although MLflow would take it."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import ENDPOINTS, LARGE_UPLOADS

ALLOW_ALL_METHODS = "allow all methods that MLflow supports"

CAUSES = (
    Cause(
        id=CauseId("method-filter"),
        hop="proxy",
        severity="down",
        symptom="405 on updates and deletions that use PATCH or DELETE",
        what="the proxy allows only GET, POST and PUT",
        remedy=ALLOW_ALL_METHODS,
        explains=(CauseId("delete-body-dropped"),),
        reddens=(
            r"::test_\w*(delete|update|rename|finalize|override|tag|patch|promote|transition|alias|merge)",
            ENDPOINTS,
            r"::test_(client_raises_)?denied_(write|step)",
            r"test_(prompts|logged_models|model_registration)\.py",
        ),
    ),
    Cause(
        id=CauseId("head-refused"),
        hop="proxy",
        severity="down",
        symptom="405 on HEAD",
        what="the proxy allows an incomplete list of methods",
        remedy=ALLOW_ALL_METHODS,
        reddens=(
            r"test_(ui|fidelity_transfer)\.py::test_head",
            rf"{ENDPOINTS}::test_verbs",
        ),
    ),
    Cause(
        id=CauseId("chunked-refused"),
        hop="proxy",
        severity="down",
        symptom="411 on empty and streamed uploads",
        what="the proxy requires the length of every body in advance",
        remedy="accept chunked bodies",
        reddens=(
            r"test_chunked_upload",
            r"test_odd_upload\[.*(chunk|trailers)",
            r"test_artifacts\.py::test_\w+\[.*-empty",
        ),
    ),
    Cause(
        id=CauseId("compressed-refused"),
        hop="proxy",
        severity="down",
        symptom="415 on traces that are sent compressed",
        what="the proxy refuses compressed bodies",
        remedy="pass compressed bodies through",
        reddens=(
            r"test_coded_request",
            r"test_odd_upload\[.*-gzip",
            r"test_otlp\.py::test_send_spans\[.*-gzip",
        ),
    ),
    Cause(
        id=CauseId("long-query-refused"),
        hop="proxy",
        severity="down",
        symptom="414 when many runs are requested at once",
        what="the proxy limits URLs to a kilobyte",
        remedy="allow at least 8 KB",
        reddens=(
            r"test_query\[.*-long",
            r"test_query_in_log",
            r"test_fidelity_names\.py",
        ),
    ),
    Cause(
        id=CauseId("headers-limited"),
        hop="proxy",
        severity="down",
        symptom="431 when a client sends many headers, as browsers and tracing do",
        what="the proxy limits the number of headers",
        remedy="allow at least 100 headers",
        reddens=(r"test_many_headers",),
    ),
    Cause(
        id=CauseId("body-size-limit"),
        hop="proxy",
        severity="down",
        symptom="413 on large uploads, while small ones work",
        what="the proxy limits the size of request bodies",
        remedy="lift the limit for MLflow's artifact paths",
        reports=("mlflow#10332",),
        reddens=(*LARGE_UPLOADS,),
    ),
)
