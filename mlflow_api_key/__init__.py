"""Lets the MLflow client send an API key as ``X-API-Key``, or in another header, for deployments that expect it there.

MLflow by itself can send a bearer token (``MLFLOW_TRACKING_TOKEN``) or a user name and password. With this package installed, it
also sends the value of ``MLFLOW_TRACKING_API_KEY``. As with MLflow's own credentials, it is sent to whatever tracking or registry
server the client is pointed at, so set it together with ``MLFLOW_TRACKING_URI``. ``MLFLOW_TRACKING_API_KEY_HEADER`` names another
header. If that is ``Authorization``, the value of ``MLFLOW_TRACKING_API_KEY`` must include the scheme, as in ``ApiKey …``.
"""

from __future__ import annotations

import os

from mlflow.tracking.request_header.abstract_request_header_provider import RequestHeaderProvider

VARIABLE = "MLFLOW_TRACKING_API_KEY"
HEADER_VARIABLE = "MLFLOW_TRACKING_API_KEY_HEADER"
HEADER = "X-API-Key"


class ApiKeyHeaderProvider(RequestHeaderProvider):
    """Adds the header; registered as an ``mlflow.request_header_provider``."""

    def in_context(self) -> bool:
        """Tell whether there is a key to send."""
        return bool(os.environ.get(VARIABLE, "").strip())

    def request_headers(self) -> dict[str, str]:
        """Return the header, without the newline that a key read from a file often ends with."""
        return {os.environ.get(HEADER_VARIABLE, "").strip() or HEADER: os.environ[VARIABLE].strip()}
