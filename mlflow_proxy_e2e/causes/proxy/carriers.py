"""Where in a request the proxy looks for the key."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import ODD_KEYS

CAUSES = (
    Cause(
        id=CauseId("carrier-ignored"),
        hop="proxy",
        severity="down",
        symptom="401 for good keys sent as X-API-Key",
        what="the proxy does not pass the X-API-Key header to the auth service",
        remedy="pass both headers to the check: Authorization and X-API-Key",
        reddens=(r"x-api-key",),
    ),
    Cause(
        id=CauseId("last-key-counts"),
        hop="proxy",
        severity="contract",
        symptom="an invalid key is accepted if a good one follows it",
        what="of several keys in one header, the proxy checks the last one",
        remedy="pass the header to the check unchanged",
        reddens=(rf"{ODD_KEYS}::test_(like_a_key|several_keys)\[.*-bearer",),
    ),
    Cause(
        id=CauseId("key-in-query-accepted"),
        hop="proxy",
        severity="contract",
        symptom="a key in the URL works, and ends up in every log",
        what="the proxy accepts a query parameter as a key",
        remedy="accept keys in headers only",
        reddens=(r"key_in_query",),
    ),
)
