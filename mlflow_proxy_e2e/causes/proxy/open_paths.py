"""Paths that are meant to need no key, such as for health checks and metrics, and reveal too much."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from urllib.parse import urlsplit

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.snippets import snippets
from mlflow_proxy_e2e.checks.leaks import internal_addresses
from mlflow_proxy_e2e.facts.facts import Facts
from mlflow_proxy_e2e.facts.question import Reply
from mlflow_proxy_e2e.facts.sign import Sign, on_each_route
from mlflow_proxy_e2e.target import Route


def _says(test: Callable[[Facts, Reply], bool]) -> Sign:
    """Return the sign that an open path, below a route or at the root of its server, has an answer that passes ``test``."""

    def wrong(facts: Facts, route: Route) -> Reply | None:
        if not facts.target.contract.open_paths:
            facts.lack("no open_paths are declared")
        replies = (facts.read_open(at, path) for path in facts.target.contract.open_paths for at in _places(route))
        return next((reply for reply in replies if test(facts, reply)), None)

    return on_each_route(wrong)


def _places(route: Route) -> Iterator[Route]:
    yield route
    url = urlsplit(route.url)
    if url.path:
        yield replace(route, url=f"{url.scheme}://{url.netloc}")


def _said(reply: Reply) -> bytes:
    headers = reply.came.headers if not isinstance(reply.came, str) else ()
    return b"\n".join([*(f"{name}: {value}".encode() for name, value in headers), reply.body])


def _a_key(facts: Facts, reply: Reply) -> bool:
    said = _said(reply)
    return any(secret.reveal().encode() in said for secret in facts.target.secrets)


def _an_address(_: Facts, reply: Reply) -> bool:
    own = urlsplit(reply.question.route.url).netloc.encode()
    return reply.status == 200 and bool(internal_addresses(reply.body, own))


CAUSES = (
    Cause(
        id=CauseId("open-path-tells-key"),
        hop="proxy",
        severity="open",
        symptom="a path that needs no key shows a user's key",
        what="the answer of a path that is meant to be open contains a key, such as in metric labels or a dump of settings",
        remedy="remove keys from the answer, revoke those that it has shown, and require a key for the path until then",
        shows=_says(_a_key),
        reddens=(r"test_secrets\.py::test_open_path",),
    ),
    Cause(
        id=CauseId("open-path-tells-address"),
        hop="proxy",
        severity="hardening",
        symptom="a path that needs no key shows internal addresses",
        what="the answer of a path that is meant to be open contains the addresses of internal services",
        remedy="have the path only say whether the service works, or serve it on a port that is not public",
        shows=_says(_an_address),
        reddens=(r"test_secrets\.py::test_open_path",),
        fixes=snippets(
            envoy="""
                routes:
                  - match: { path: /health }
                    direct_response: { status: 200, body: { inline_string: '{"status":"ok"}' } }
                    typed_per_filter_config: # no key is needed
                      envoy.filters.http.ext_authz:
                        "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute
                        disabled: true
            """,
            nginx="""
                http {
                    server {
                        location = /health {
                            return 200 '{"status":"ok"}';
                        }
                    }
                    server {
                        listen 127.0.0.1:8090; # not public
                        location = /status { stub_status; }
                    }
                }
            """,
        ),
    ),
)
