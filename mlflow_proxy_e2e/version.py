"""The version of MLflow that a target serves, and the installed one."""

from __future__ import annotations

import http.client
import re
from importlib import metadata

from mlflow_proxy_e2e.target import Target
from mlflow_proxy_e2e.wire import Request, Wire

VERSION = Request("GET", "/version")
NUMBER = re.compile(rb"\d+\.\d+[\w.+-]{0,20}")  # anything else is not MLflow's answer
SECONDS = 2.0  # for the answer: a report can do without it


def installed() -> str:
    """Return the version of MLflow in this environment, which is that of the client and of the server."""
    return metadata.version("mlflow-skinny")


def mlflow_version(target: Target, seconds: float = SECONDS) -> str | None:
    """Return the version of MLflow by its own answer, or through the first route; None without an answer within ``seconds``."""
    reader = next(iter(target.who_may("read")), None)
    route, identity = (target.direct, None) if target.direct else (target.routes[0], reader)
    try:
        with Wire(route, identity, timeout=seconds) as wire:
            answer = wire.ask(VERSION)
    except (OSError, http.client.HTTPException):
        return None
    said = NUMBER.fullmatch(answer.body)
    return said[0].decode() if said and answer.status == http.client.OK else None
