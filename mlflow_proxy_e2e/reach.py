"""Whether a route can be reached at all."""

from __future__ import annotations

import http.client
import socket
import ssl

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.target import Identity, Route
from mlflow_proxy_e2e.traffic import EndlessAnswerError
from mlflow_proxy_e2e.wire import Request, UnfinishedError, Wire

READ = Request("GET", "/api/2.0/mlflow/experiments/search?max_results=1")  # any answer shows that the target can be reached


def why_unreachable(route: Route, who: Identity | None = None) -> str | None:
    """Return why a read on a route gets no answer, not even a refusal, or None if it gets one."""
    try:
        with Wire(route, who, timeout=timeouts.REACH, whole=timeouts.REACH) as wire:
            wire.ask(READ)
    except socket.gaierror:
        return "its host name does not resolve"
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not accepted: {error.verify_message}"
    except ssl.SSLError as error:
        return f"no TLS connection can be established: {error.reason or 'no reason given'}"
    except TimeoutError:
        return f"there is no answer within {timeouts.REACH:g} s"
    except (UnfinishedError, EndlessAnswerError) as error:
        return f"its answer does not end: {error}"
    except OSError as error:
        return f"{error.strerror or error}"
    except http.client.HTTPException:
        return "the server does not speak HTTP"
    return None
