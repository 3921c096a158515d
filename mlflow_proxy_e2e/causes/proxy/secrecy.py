"""What leaks: keys and internal addresses in logs and answers."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import DENIALS

CAUSES = (
    Cause(
        id=CauseId("internal-leak"),
        hop="proxy",
        severity="hardening",
        symptom="answers reveal MLflow's internal address",
        what="the proxy adds its upstream's address to answers",
        remedy="remove the upstream's address from responses",
        reddens=(r"test_secrets\.py::test_no_answer_says_where\[.*(malformed|read)",),
    ),
    Cause(
        id=CauseId("internal-leak-in-errors"),
        hop="proxy",
        severity="hardening",
        symptom="refusals reveal the auth service's internal address",
        what="the proxy puts the error of its own call to the auth service into its answer",
        remedy="log the error, and leave it out of the response",
        reddens=(r"test_secrets\.py::test_no_answer_says_where",),
    ),
    Cause(
        id=CauseId("credential-leak"),
        hop="proxy",
        severity="open",
        symptom="keys appear in the proxy's log",
        what="the proxy logs request headers, as for debugging",
        remedy="keep headers that carry keys out of logs, and revoke the keys that were logged",
        explains=(CauseId("query-logged"),),
        reddens=(r"test_secrets\.py::test_no_log_has_a_key",),
    ),
    Cause(
        id=CauseId("query-logged"),
        hop="proxy",
        severity="hardening",
        symptom="keys that somebody has put into a URL appear in the proxy's log",
        what="the proxy logs URLs with their query",
        remedy="log paths only, and revoke the keys that were logged",
        reddens=(r"test_secrets\.py::test_no_log_has_a_key\[.*query",),
    ),
    Cause(
        id=CauseId("key-echoed"),
        hop="proxy",
        severity="open",
        symptom="answers repeat the key that was sent",
        what="the proxy adds request headers to answers, as for debugging",
        remedy="remove headers that carry keys from responses",
        reddens=(
            r"test_denials\.py::test_read\[",
            DENIALS,
            r"test_trace_echoes_no_key",
        ),
    ),
)
