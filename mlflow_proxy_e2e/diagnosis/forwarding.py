"""Whether what is let in reaches MLflow as it was sent, and comes back as it was answered."""

from __future__ import annotations

import gzip
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

from mlflow_proxy_e2e.access_log import AccessLog
from mlflow_proxy_e2e.diagnosis.asking import NoTimeLeftError, Question, Reply
from mlflow_proxy_e2e.diagnosis.examination import READ, Examination, Finding, together, works
from mlflow_proxy_e2e.diagnosis.ground import (
    API,
    BIG,
    LARGE,
    UNKNOWN_RUN,
    Ground,
    artifacts_of,
    get,
    ground,
    large_file,
    plain_file,
    post,
)
from mlflow_proxy_e2e.diagnosis.mlflow import cannot_write, mlflow, versions
from mlflow_proxy_e2e.diagnosis.patience import Patience
from mlflow_proxy_e2e.diagnosis.traits import (
    Test,
    Trait,
    by_hop,
    differs,
    lets_method_pass,
    repeats,
    status_is_not,
    unless,
    unrouted,
)
from mlflow_proxy_e2e.run import PREFIX
from mlflow_proxy_e2e.target import Route
from mlflow_proxy_e2e.wire import JSON, Headers, Request

LONG = 4000  # bytes of a query: half of what most servers take
MANY_HEADERS = tuple((f"X-Some-{number}", "x") for number in range(40))  # browsers behind a few proxies send as many
SOME = b"x" * 300_000  # bytes: more than is sent at once, and less than people limit
NAMES = {"slash-decode": "x%5Cy", "path-lowercased": "xYz", "path-cut-at-semicolon": "x;y"}  # of artifacts, as sent
ELSEWHERE = (("Origin", "https://elsewhere.example.com"),)
INTERNAL = re.compile(  # addresses of private networks (RFC 1918), and names that resolve inside of them only
    rb"(?<![\d.])(?:(?:127|10)\.\d{1,3}|192\.168|172\.(?:1[6-9]|2\d|3[01]))(?:\.\d{1,3}){2}(?![\d.])|[\w-]+\.(?:internal|local|svc)\b"
)
UI, TRACES, OTLP, REGISTRY, ARTIFACTS = (frozenset({name}) for name in ("ui", "traces", "otlp", "registry", "artifacts"))
LARGE_ARTIFACTS = ARTIFACTS | {"large-bodies"}
TIMES = 2  # that something has to happen which may happen by chance
CREATED = 5  # runs at once, of which not all may be slow enough to be created again
NO_SUCH, REFUSED_VALUE = "RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"  # MLflow's error codes
NO_MODEL = f"{PREFIX}-no-such-model"
UPDATE = Request("PATCH", f"{API}/registered-models/update", JSON, b"{}")  # nobody's: MLflow answers that the name is missing
DELETE = Request("DELETE", f"{API}/registered-models/delete", JSON, b"{}")
SPANS: Headers = (*JSON, ("X-Mlflow-Experiment-Id", "0"))
SPANS_ZIPPED = Request(
    "POST", "/v1/traces", (*SPANS, ("Content-Encoding", "gzip")), gzip.compress(b'{"resourceSpans": []}', mtime=0)
)
ASKS_FOR_GZIP = replace(READ, headers=(("Accept-Encoding", "gzip"),))
FILTER = post("runs/search", {"experiment_ids": [], "filter": "tags.a = 'x'' OR 1=1; DROP TABLE runs --'"})
BLANK = get("experiments/get-by-name?experiment_name=&experiment_name=no")
SEARCH = post("runs/search", {"experiment_ids": [], "max_results": 1})
PAGE = Request("GET", "/")
TRACES_SEARCH = Request("POST", "/api/3.0/mlflow/traces/search", JSON, b"{}")
NO_FOLDER = Request("GET", "/api/2.0/mlflow-artifacts/artifacts?path=no-such-folder")
DIGITS = b"0123456789"
PART: Headers = (("Range", "bytes=1-2"),)


def forwarding(x: Examination) -> Iterator[Finding]:
    """Find out what becomes of calls on their way, and what MLflow itself does not do."""
    yield from _healths(x)
    if differing := list(versions(x)):
        yield from differing
        return  # whatever else differs, differs by that
    yield from _found(x, WITHOUT_GROUND, None)
    if not x.target.who_may("write"):
        return
    with ground(x) as own:
        if own.is_there:
            patience = Patience(x, own) if x.target.capabilities >= LARGE_ARTIFACTS else None
            yield from (in_mlflow := list(mlflow(x, own)))
            if not in_mlflow:  # otherwise what it does wrong itself would be looked for on the way
                with suppress(NoTimeLeftError):
                    yield from _found(x, ON_GROUND, own)
                yield from patience.findings() if patience else ()
        elif x.target.direct:
            yield cannot_write(own.failed)
        else:
            yield _not_created(x, own.failed)


def _not_created(x: Examination, failed: Reply) -> Finding:
    hops = together(*x.behind([failed.question.route]), "auth", "mlflow")
    return Finding((), hops, (failed, *x.trail_of(failed)), "what is to be created for further questions does not come about")


def _found(x: Examination, traits: Sequence[Trait], own: Ground | None) -> Iterator[Finding]:
    possible = (trait for trait in traits if trait.needs <= x.target.capabilities and x.control.may(trait.scope))
    for trait in sorted(possible, key=lambda trait: not trait.needs & x.about):
        if wrong := x.wrong(partial(_shown, x, trait, own)):
            hops = x.behind((reply.question.route for reply in wrong), trait.hop)
            yield Finding(by_hop(hops, trait.causes, trait.at_edge), hops, (wrong[0], *x.trail_of(wrong[0])))


def _shown(x: Examination, trait: Trait, own: Ground | None, route: Route) -> Reply | None:
    return trait.wrong(x, route, own)


def _conditional(x: Examination, route: Route, own: Ground | None) -> Reply | None:
    tag = page.header("ETag") if (page := x.ask_directly(PAGE)) else None
    return differs(replace(PAGE, headers=(("If-None-Match", tag),)), lambda reply: reply.status)(x, route, own) if tag else None


def _asset(x: Examination, route: Route, own: Ground | None) -> Reply | None:
    """A script of MLflow's pages, by the name that the page itself has for it."""
    page = x.ask_directly(PAGE) or x.ask(route, PAGE)
    found = re.search(rb'(?:src|href)="\.?/?(static-files/[^"]+)"', page.body)
    return unrouted(Request("GET", f"/{found[1].decode()}"))(x, route, own) if found else None


def _address(x: Examination, route: Route, _: Ground | None) -> Reply | None:
    """An answer or a refusal with an internal address in it, other than the route's own, that MLflow has not put there."""
    direct = x.ask_directly(READ)
    known, own = _said(direct) if direct else b"", urlsplit(route.url).netloc.encode()
    answer, refusal = x.ask(route, READ), x.asker.ask(Question(route, READ))
    for reply, said in ((answer, _said(answer) if direct else _headers(answer)), (refusal, _said(refusal))):
        if [found for found in INTERNAL.findall(said.replace(own, b"")) if found not in known]:
            return reply
    return None


def _said(reply: Reply) -> bytes:
    return b"\n".join([_headers(reply), reply.body[:4000]])


def _headers(reply: Reply) -> bytes:
    names = ("server", "date", "etag", "via")  # in which versions and numbers stand that look like addresses
    headers = reply.came.headers if not isinstance(reply.came, str) else ()
    return b"\n".join(value.encode() for name, value in headers if name.lower() not in names)


def _echo(x: Examination, route: Route, _: Ground | None) -> Reply | None:
    reply = x.ask(route, READ)
    key = x.control.key.reveal().encode() if x.control.key else None
    return reply if key and key in _said(reply) else None


def _logged(header: bool) -> Test:  # noqa: FBT001 - one of two ways in which a key gets into a log
    """Return what finds out whether a key gets into a hop's log with this very request: tests may have sent it in odd places."""

    def wrong(x: Examination, route: Route, _: Ground | None) -> Reply | None:
        if x.control.key is None or not x.trail:
            return None
        log, key = AccessLog([hop.log for hop in x.target.hops if hop.name in ("edge", "proxy")]), x.control.key.reveal()
        before = len(log.lines_with(key))
        in_query = Question(route, replace(READ, path=f"{READ.path}&api_key={key}"))
        reply = x.asker.again(x.question(route, READ) if header else in_query)
        x.trail.steps(reply.request_id)  # by then the lines about it are written
        return reply if len(log.lines_with(key)) > before else None

    return wrong


def _on_root(x: Examination, route: Route, _: Ground | None) -> Reply | None:
    """MLflow outside of the prefix, where nobody is asked for a key."""
    parts = urlsplit(route.url)
    outside = x.asker.ask(Question(Route(route.name, f"{parts.scheme}://{parts.netloc}", route.ca), READ))
    return outside if parts.path.strip("/") and works(outside) else None


def _healths(x: Examination) -> Iterator[Finding]:
    """The health paths of the hops themselves, which answer without a key."""
    for hop, cause in (("edge", "edge-health-shadowed"), ("proxy", "health-shadowed")):
        health = x.ask_hop(hop)
        if health and health.status not in (None, 200):
            yield Finding((cause,), (hop,), (health,))


def _from_elsewhere(x: Examination, route: Route, _: Ground | None) -> Reply | None:
    """A write as a browser sends it that shows somebody else's page: MLflow refuses it, but the key is what is to be checked."""
    reply = x.ask(route, replace(SEARCH, headers=(*SEARCH.headers, *ELSEWHERE)))
    return reply if reply.status == 403 and x.ask(route, SEARCH).status == 200 else None


def _not_in_table(x: Examination, route: Route, _: Ground | None) -> Reply | None:
    """A call of MLflow's third version that is forbidden as the contract forbids, and not as somebody else does."""
    reply = x.ask(route, TRACES_SEARCH)
    return reply if reply.status == x.target.contract.forbidden and reply.error_code else None


def _suspicious(x: Examination, route: Route, _: Ground | None) -> Reply | None:
    """A search whose filter looks like an attack, refused where another search is not. MLflow's own answer is 400."""
    reply = x.ask(route, FILTER)
    return reply if reply.status in (403, 406, 418) and x.ask(route, SEARCH).status == 200 else None


def _closes_each_time(x: Examination, route: Route, _: Ground | None) -> Reply | None:
    """Now and then everybody closes a connection. MLflow itself leaves them open."""
    replies = x.asker.several_times(x.question(route, READ), TIMES)
    return replies[0] if all((reply.header("Connection") or "").lower() == "close" for reply in replies) else None


WITHOUT_GROUND = (
    Trait(("api-ajax-split",), unrouted(replace(READ, path=f"/ajax-{READ.path[1:]}")), needs=UI),
    Trait(("v3-unrouted",), unrouted(Request("GET", "/api/3.0/mlflow/server-info")), needs=TRACES),
    Trait(("v3-unrouted",), unrouted(TRACES_SEARCH), needs=TRACES),
    Trait(("otlp-unrouted",), unrouted(Request("POST", "/v1/traces", JSON, b"{}")), needs=OTLP, scope="write"),
    Trait(
        ("artifacts-unrouted",),
        unrouted(NO_FOLDER),
        needs=ARTIFACTS,
    ),
    Trait(("ui-blank-under-prefix",), _asset, needs=UI),
    Trait(("catchall-to-mlflow",), _on_root),
    Trait(("scopes-table-old",), _not_in_table, "auth", needs=TRACES),
    Trait(("head-refused",), unless(Request("HEAD", READ.path), lets_method_pass)),
    Trait(("method-filter",), unless(UPDATE, lets_method_pass), needs=REGISTRY, scope="write"),
    Trait(("method-filter",), unless(DELETE, lets_method_pass), needs=REGISTRY, scope="write"),
    Trait(("redirect-post-to-get",), unless(SEARCH, status_is_not(301, 302, 303))),
    Trait(("redirect-drops-auth",), unless(SEARCH, status_is_not(307, 308))),
    Trait(("waf-blocks",), _suspicious),
    Trait(
        ("delete-body-dropped",),
        unless(replace(DELETE, body=f'{{"name": "{NO_MODEL}"}}'.encode()), repeats(NO_MODEL)),
        needs=REGISTRY,
        scope="write",
    ),
    Trait(("status-rewritten",), unless(UNKNOWN_RUN, lambda reply: reply.status == 404 or reply.error_code != NO_SUCH)),
    Trait(("error-shape",), unless(UNKNOWN_RUN, lambda reply: reply.error_code == NO_SUCH or reply.status != 404)),
    Trait(("query-dropped",), unless(get("experiments/get-by-name?experiment_name=no-such-x"), repeats("no-such-x"))),
    Trait(("plus-decoded",), unless(get("experiments/get-by-name?experiment_name=no-such-x%2By"), repeats("x+y"))),
    Trait(("percent-decoded-twice",), unless(get("experiments/get-by-name?experiment_name=no-such-x%2541"), repeats("x%41"))),
    Trait(
        ("long-query-refused",),
        unless(get(f"experiments/get-by-name?experiment_name={'x' * LONG}"), status_is_not(400, 413, 414, 431)),
    ),
    Trait(("headers-limited",), unless(replace(READ, headers=MANY_HEADERS), status_is_not(400, 431))),
    Trait(("compressed-refused",), differs(SPANS_ZIPPED, lambda reply: reply.status), needs=OTLP, scope="write"),
    Trait(("origin-403",), _from_elsewhere),
    Trait(("conditions-dropped",), _conditional),
    Trait(("cors-opened",), differs(READ, lambda reply: reply.header("Access-Control-Allow-Origin"))),
    Trait(("key-echoed",), _echo),
    Trait(("credential-leak",), _logged(header=True)),
    Trait(("query-logged",), _logged(header=False)),
    Trait(("internal-leak", "internal-leak-in-errors"), _address),
    Trait(("keep-alive-off",), _closes_each_time, at_edge=("edge-keep-alive-off",)),
    Trait(("charset-changed",), differs(READ, lambda reply: reply.header("Content-Type"))),
    Trait(("content-recoded",), differs(ASKS_FOR_GZIP, lambda reply: reply.header("Content-Encoding"))),
    Trait(("json-rewritten",), differs(READ, lambda reply: reply.body)),
)


def _on_ground(test: Callable[[Ground, Route], Test]) -> Test:
    """Return the test that is made of what there is to work on."""
    return lambda x, route, own: test(own, route)(x, route, own) if own else None


def _history(own: Ground, _: Route) -> Test:
    ids = "&".join(f"run_id={run_id}" for run_id in own.run_ids)
    request = Request("GET", f"/ajax-api/2.0/mlflow/metrics/get-history-bulk?{ids}&metric_key=m")
    return unless(request, lambda reply: reply.status != 200 or all(run_id.encode() in reply.body for run_id in own.run_ids))


def _big_number(own: Ground, _: Route) -> Test:
    return unless(get(f"runs/get?run_id={own.run_ids[0]}"), lambda reply: str(BIG).encode() in reply.body or not works(reply))


def _bare_word(own: Ground, _: Route) -> Test:
    body = f'{{"run_id": "{own.run_ids[0]}", "key": "nan", "value": NaN, "timestamp": 1}}'.encode()
    return unless(Request("POST", f"{API}/runs/log-metric", JSON, body), lambda reply: reply.error_code != REFUSED_VALUE)


def _remembered(x: Examination, route: Route, own: Ground | None) -> Reply | None:
    """A read before and after a change: an answer that is kept does not have it."""
    if own is None:
        return None
    read = get(f"runs/get?run_id={own.run_ids[1]}&of={route}")
    x.ask(route, read)
    mark = f"changed-{uuid.uuid4().hex}"
    change = post("runs/set-tag", {"run_id": own.run_ids[1], "key": "mark", "value": mark})
    changed = x.ask_directly(change) or x.ask(route, change)
    after = x.asker.again(x.question(route, read))
    return after if changed.status == after.status == 200 and mark.encode() not in after.body else None


def _twice(x: Examination, route: Route, own: Ground | None) -> Reply | None:
    """Some creations at once, and how many runs came of them."""
    if own is None:
        return None
    tag = {"key": "once", "value": uuid.uuid4().hex}
    creations = (
        post("runs/create", {"experiment_id": own.experiment_id, "tags": [tag], "user_id": f"{n}"}) for n in range(CREATED)
    )
    replies = x.asker.ask_all(x.question(route, creation) for creation in creations)
    search = post("runs/search", {"experiment_ids": [own.experiment_id], "filter": f"tags.once = '{tag['value']}'"})
    held = (x.ask_directly(search) or x.ask(route, search)).json()
    return replies[0] if isinstance(held, dict) and len(held.get("runs", ())) > CREATED else None


def _stored(cause: str) -> Test:
    """Return what finds out whether an artifact is not stored under the name that was sent."""

    def wrong(x: Examination, route: Route, own: Ground | None) -> Reply | None:
        if own is None:
            return None
        file = f"{artifacts_of(own)}/{route}/{cause}/{NAMES[cause]}"
        upload, held = x.ask(route, Request("PUT", file, body=b"x")), x.ask_directly(Request("GET", file))
        return upload if upload.status == 200 and held and held.status not in (None, 200) else None

    return wrong


def _kept(body: bytes, headers: Headers = (), content: bytes | None = None) -> Test:
    """Return what finds out whether an upload is taken, and other bytes are kept of it."""

    def upload(own: Ground, route: Route) -> Request:
        return Request("PUT", f"{artifacts_of(own)}/{route}-{len(body)}-{len(headers)}.bin", headers, body)

    return _keeps(upload, content or body)


def _keeps(upload: Callable[[Ground, Route], Request], content: bytes) -> Test:
    def keeps_other(x: Examination, sent: Request) -> bool:
        held = x.ask_directly(Request("GET", sent.path))
        return bool(held and held.status == 200 and held.body != content)

    def wrong(x: Examination, route: Route, own: Ground | None) -> Reply | None:
        if own is None or x.target.direct is None:
            return None
        reply = x.ask(route, upload(own, route))
        if reply.status != 200 or not keeps_other(x, reply.question.request):
            return None
        by_itself = upload(own, x.target.direct)  # some MLflow of its own keeps what it was sent in another way
        x.ask_directly(by_itself)
        return None if keeps_other(x, by_itself) else reply

    return wrong


def _refuses(upload: Callable[[Ground, Route], Request], *how: int | None) -> Test:
    """Return what finds out whether an upload is refused in one of these ways, where a plain small one is taken."""

    def wrong(x: Examination, route: Route, own: Ground | None) -> Reply | None:
        if own is None:
            return None
        if x.ask(route, plain_file(own, route)).status != 200:
            return None
        reply = x.ask(route, upload(own, route))
        if reply.status not in how or reply.failure not in (None, "closed"):
            return None
        direct = x.ask_directly(reply.question.request)
        return reply if direct is None or direct.status == 200 else None

    return wrong


def _plain_upload(own: Ground, route: Route) -> Test:
    return unless(plain_file(own, route), lets_method_pass)


def _chunked(own: Ground, route: Route) -> Request:
    return Request("PUT", f"{artifacts_of(own)}/{route}-chunked.bin", CHUNKED, THREE_IN_CHUNKS)


def _downloaded(content: bytes, headers: Headers, of: Callable[[Reply], object]) -> Test:
    """Return what finds out whether something about a download is not as in MLflow's own."""

    def wrong(x: Examination, route: Route, own: Ground | None) -> Reply | None:
        if own is None:
            return None
        file = f"{artifacts_of(own)}/known-{len(content)}.txt"
        put = x.ask_directly(Request("PUT", file, body=content))
        return differs(Request("GET", file, headers), of)(x, route, own) if put and put.status == 200 else None

    return wrong


ZIPPED = gzip.compress(b"content", mtime=0)
THREE_IN_CHUNKS = b"3\r\nabc\r\n0\r\n\r\n"
CHUNKED: Headers = (("Transfer-Encoding", "chunked"),)

ON_GROUND = (
    Trait(("response-cached",), _remembered),
    Trait(("ghost-runs", "shadow-traffic"), _twice),
    Trait(("query-collapse",), _on_ground(_history), needs=UI),
    Trait(
        ("blank-parameters-dropped",), differs(get("experiments/get-by-name?experiment_name=&experiment_name=no"), lambda r: r.body)
    ),
    Trait(("big-numbers-rounded",), _on_ground(_big_number)),
    Trait(("nan-nulled",), _on_ground(_bare_word)),
    Trait(("method-filter",), _on_ground(_plain_upload), needs=ARTIFACTS),
    Trait(("chunked-refused",), _refuses(_chunked, 400, 411, 501), needs=ARTIFACTS),
    *(Trait((cause,), _stored(cause), needs=ARTIFACTS) for cause in NAMES),
    Trait(("request-decompressed",), _kept(ZIPPED, (("Content-Encoding", "gzip"),)), needs=ARTIFACTS),
    Trait(("http10-downgrade",), _kept(THREE_IN_CHUNKS, CHUNKED, b"abc"), needs=ARTIFACTS),
    Trait(
        ("range-dropped",),
        _downloaded(DIGITS, PART, lambda reply: (reply.status, reply.body)),
        needs=ARTIFACTS,
    ),
    Trait(("disposition-dropped",), _downloaded(DIGITS, (), lambda reply: reply.header("Content-Disposition")), needs=ARTIFACTS),
    Trait(("body-cut",), _kept(SOME), needs=ARTIFACTS),
    Trait(
        ("body-size-limit",),
        _refuses(large_file, 413, None),
        at_edge=("edge-body-size-limit",),
        needs=LARGE_ARTIFACTS,
    ),
    Trait(("body-cut",), _keeps(large_file, LARGE), needs=LARGE_ARTIFACTS),
)
