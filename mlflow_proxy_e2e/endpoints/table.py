"""The route table of the installed MLflow: every method and path that its server answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from mlflow_proxy_e2e.wire import JSON, Answer, Request

VERBS = ("DELETE", "GET", "PATCH", "POST", "PUT")  # the methods that endpoints use


class Endpoint(NamedTuple):
    """A method and a path, where ``*`` stands for one segment and ``**`` for one or more."""

    method: str
    template: str

    def __str__(self) -> str:
        return f"{self.method} {self.template}"

    def call(self) -> Request:
        """Return a call without effect: without a body, with ids that do not exist."""
        path, body = HARMLESS.get(str(self), (self.template, None))
        path = path.replace("**", f"{NOBODY}/{NOBODY}").replace("*", NOBODY)
        return Request(self.method, path, JSON, body) if body else Request(self.method, path)


NOBODY = "e2e-nobody"  # an id that does not exist
ARTIFACTS = "2.0/mlflow-artifacts/artifacts"
GATEWAY_MODELS = "/ajax-api/3.0/mlflow/gateway/supported-models"
# Endpoints that need a different path or body for that.
HARMLESS: Mapping[str, tuple[str, bytes | None]] = {
    # It would store a file. MLflow refuses this name.
    f"PUT /api/{ARTIFACTS}/**": (f"/api/{ARTIFACTS}/*/%23", None),
    f"PUT /ajax-api/{ARTIFACTS}/**": (f"/ajax-api/{ARTIFACTS}/*/%23", None),
    # It would create data for all features, which takes long.
    "POST /ajax-api/3.0/mlflow/demo/generate": ("/ajax-api/3.0/mlflow/demo/generate", b'{"features": ["e2e-nobody"]}'),
    # It would download the list of all providers' models from the internet.
    f"GET {GATEWAY_MODELS}": (f"{GATEWAY_MODELS}?provider=*", None),
    # For a missing file, they answer like a server that does not have the endpoint.
    "GET /static-files/**": ("/static-files/index.html", None),
    "GET /build/**": ("/build/index.html", None),
}


def endpoints() -> tuple[Endpoint, ...]:
    """Return what the installed MLflow serves, by path: its Flask application, and the FastAPI application around it."""
    from mlflow.server import app as flask_app
    from mlflow.server.fastapi_app import app as fastapi_app

    served = {(method, rule.rule) for rule in flask_app.url_map.iter_rules() for method in rule.methods or ()}
    served |= set(_native(fastapi_app.routes))
    known = {Endpoint(method, _as_template(path)) for method, path in served if method in VERBS}
    return tuple(sorted(known, key=lambda endpoint: (endpoint.template, endpoint.method)))


def _native(routes: Iterable[Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for route in routes:
        if hasattr(route, "original_router"):  # an included router, which keeps its own routes
            yield from _native(route.original_router.routes, prefix + route.include_context.prefix)
        elif hasattr(route, "methods"):  # the only one without methods is the mounted Flask application
            yield from ((method, prefix + route.path) for method in route.methods)


def _as_template(path: str) -> str:
    """Write ``/a/<path:b>/<c>`` (Flask) or ``/a/{b:path}/{c}`` (FastAPI) as ``/a/**/*``."""
    return re.sub(r"<[^>]*>|\{[^}]*\}", "*", re.sub(r"<path:[^>]*>|\{[^}]*:path\}", "**", path))


def is_missing(answer: Answer) -> bool:
    """Tell whether such an answer to an endpoint's call means that the server does not have the endpoint."""
    of_flask = b"The requested URL was not found on the server" in answer.body
    of_fastapi = answer.body == b'{"detail":"Not Found"}'
    return answer.status == 405 or (answer.status == 404 and (of_flask or of_fastapi))
