"""A gateway of Starlette and aiohttp, whose refusals are in the framework's usual format. uvicorn runs it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import aiohttp
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from yarl import URL

PREFIX = "/mlflow"
AUTH, MLFLOW = "http://${auth}/forward-auth/mlflow", "http://${mlflow}"
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
KEYS = ("authorization", "x-api-key")
CALLER = ("x-auth-user", "x-auth-key-id")
BETWEEN_HOPS = {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
NOT_FORWARDED = {"host", *KEYS, *CALLER, *BETWEEN_HOPS}
REFUSALS = {401: "Not authenticated", 403: "Not enough permissions", 429: "Too many requests"}
DECISION = aiohttp.ClientTimeout(total=3)
IDLE = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=60)


@asynccontextmanager
async def session(app: Starlette) -> AsyncIterator[None]:
    """Keep one session for the life of the application."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=3)  # uvicorn closes a connection that was idle for 5 s
    async with aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
    ) as app.state.session:
        yield


async def health(_: Request) -> Response:
    """Answer without a key."""
    return PlainTextResponse("ok")


async def gateway(request: Request) -> Response:
    """Ask the auth service about a call, and forward it."""
    raw = request.scope["raw_path"].decode()
    if raw != PREFIX and not raw.startswith(f"{PREFIX}/"):
        return _detail(404, "Not Found")
    query = request.scope["query_string"].decode("latin-1")
    below = (raw.removeprefix(PREFIX) or "/") + (f"?{query}" if query else "")

    asked = [(name, value) for name, value in request.headers.items() if name in KEYS]
    asked += [("x-forwarded-method", request.method), ("x-forwarded-uri", PREFIX + below)]
    http: aiohttp.ClientSession = request.app.state.session
    try:
        async with http.get(AUTH, headers=asked, timeout=DECISION) as decision:
            said = decision.headers
    except (aiohttp.ClientError, TimeoutError):
        return _detail(503, "Service unavailable")
    except ValueError:  # a header that aiohttp does not send
        return _detail(400, "Bad request")
    if decision.status in REFUSALS:
        why = {name: said[name] for name in ("WWW-Authenticate", "Retry-After") if name in said}
        return _detail(decision.status, REFUSALS[decision.status], why)
    if decision.status != 200 or CALLER[1] not in said:
        return _detail(503, "Service unavailable")

    caller = [(name, said[name]) for name in CALLER]
    has_body = "content-length" in request.headers or "transfer-encoding" in request.headers
    try:
        answer = await http.request(
            request.method,
            URL(MLFLOW + below, encoded=True),
            headers=[*_forwarded(request.headers.items(), request.headers.get("connection", "")), *caller],
            data=request.stream() if has_body else None,
            allow_redirects=False,
            timeout=IDLE,
        )
    except TimeoutError:
        return _detail(504, "Gateway timeout")
    except aiohttp.ClientError:
        return _detail(502, "Bad gateway")
    reply = StreamingResponse(answer.content.iter_any(), answer.status, background=BackgroundTask(answer.release))
    reply.raw_headers = [(n.lower(), v) for n, v in answer.raw_headers if n.lower().decode() not in BETWEEN_HOPS]
    return reply


def _forwarded(headers: Iterable[tuple[str, str]], connection: str) -> list[tuple[str, str]]:
    """Return the headers to forward: without those between hops, and those that a WSGI server takes for the caller's."""
    named = {name.strip().lower() for name in connection.split(",")}
    return [(name, value) for name, value in headers if name not in NOT_FORWARDED | named and "_" not in name]


def _detail(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"detail": detail}, status, headers)


app = Starlette(
    routes=[Route("/health", health), Route("/{path:path}", gateway, methods=METHODS)],
    middleware=[Middleware(GZipMiddleware)],
    lifespan=session,
)
