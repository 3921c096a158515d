"""An HTTP session of one identity on one route, as scripts use it. It does not need MLflow."""

from __future__ import annotations

from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import requests

from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.target import Carrier, Identity, Route, key_headers


class Sender(NamedTuple):
    """The route and the identity of a request, and how the key was sent. ``identity`` is None if there was no key."""

    route: Route
    identity: Identity | None = None
    carrier: Carrier | None = None


_SENDERS: WeakKeyDictionary[requests.Response, Sender] = WeakKeyDictionary()


class Rest(requests.Session):
    """An HTTP session of one identity on one route. Paths are MLflow's own, such as ``/api/2.0/mlflow/runs/create``."""

    def __init__(self, route: Route, identity: Identity | None = None, carrier: Carrier | None = None) -> None:
        super().__init__()
        self._base, self._sender = route.url, Sender(route, identity, carrier)
        self.trust_env = False  # no .netrc, proxy variable or CA bundle of this machine may change what is sent
        self.verify = route.ca or True
        if route.proxy:
            self.proxies = dict.fromkeys(("http", "https"), route.proxy)
        self.headers.update(key_headers(identity, carrier))

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **options: Any) -> requests.Response:
        """Send a request to ``url``, a path within MLflow. Redirects are returned, not followed."""
        path = url.decode() if isinstance(url, bytes) else url
        options.setdefault("timeout", timeouts.ANSWER)
        options["allow_redirects"] = False  # requests' own get() would follow redirects
        answer = super().request(method, self._base + path, *args, **options)
        _SENDERS[answer] = self._sender
        return answer


def sender_of(answer: requests.Response) -> Sender:
    """Return the sender of the request that a ``Rest`` got this answer to."""
    return _SENDERS[answer]
