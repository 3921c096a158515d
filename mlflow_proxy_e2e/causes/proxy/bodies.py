"""Bodies that are dropped, cut off or changed on the way."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import replace

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import ALL, CONVERSATIONS, DENIALS, ENDPOINTS, LARGE_DOWNLOADS, LARGE_UPLOADS
from mlflow_proxy_e2e.causes.snippets import snippets
from mlflow_proxy_e2e.facts.comparisons import differs, in_sandbox, repeats, unless
from mlflow_proxy_e2e.facts.facts import READ, Facts
from mlflow_proxy_e2e.facts.question import Reply
from mlflow_proxy_e2e.facts.sandbox import API, BIG, DEFAULT_EXPERIMENT, LARGE, Sandbox, get, post
from mlflow_proxy_e2e.facts.sign import Sign, holds, needing, on_routes, shared
from mlflow_proxy_e2e.facts.slow_calls import download_cut
from mlflow_proxy_e2e.facts.stopped import Stopped, status, stops
from mlflow_proxy_e2e.run import PREFIX
from mlflow_proxy_e2e.target import Route
from mlflow_proxy_e2e.wire import JSON, Answer, Headers, Request

UNCHANGED = "pass bodies through unchanged"


SOME = b"x" * 300_000  # bytes: more than is sent at once, but below any common limit
REFUSED_VALUE = "INVALID_PARAMETER_VALUE"  # MLflow's error code
NO_MODEL = f"{PREFIX}-no-such-model"
DELETE = Request("DELETE", f"{API}/registered-models/delete", JSON, f'{{"name": "{NO_MODEL}"}}'.encode())
PLAIN: Headers = (("Accept-Encoding", "identity"),)
UNCODED = replace(DEFAULT_EXPERIMENT, headers=PLAIN)
ASKS_FOR_GZIP = replace(DEFAULT_EXPERIMENT, headers=(("Accept-Encoding", "gzip"),))
PAGE_PLAIN = Request("GET", "/", PLAIN)
PAGE_ZIPPED = replace(PAGE_PLAIN, headers=(("Accept-Encoding", "gzip"),))
ZIPPED = gzip.compress(b"content", mtime=0)
CODED: Headers = (("Content-Encoding", "gzip"),)
CHUNKED: Headers = (("Transfer-Encoding", "chunked"),)


BINARY = bytes(range(256))
FORM: Headers = (("Content-Type", "application/x-www-form-urlencoded"),)  # of what curl sends, unless it is told otherwise
TEXT = "a<b & \"c\" 'd' http://e.example/?f=1&g=2"
THREE_IN_CHUNKS = b"3\r\nabc\r\n0\r\n\r\n"


def _big_number(facts: Facts, route: Route, own: Sandbox) -> Reply | None:
    request = get(f"runs/get?run_id={own.run_ids[0]}")
    return unless(request, lambda reply: str(BIG).encode() in reply.body or not reply.works)(facts, route)


def _bare_word(facts: Facts, route: Route, own: Sandbox) -> Reply | None:
    body = f'{{"run_id": "{own.run_ids[0]}", "key": "nan", "value": NaN, "timestamp": 1}}'.encode()
    request = Request("POST", f"{API}/runs/log-metric", JSON, body)
    return unless(request, lambda reply: reply.error_code != REFUSED_VALUE)(facts, route)


def _unpacks_to_another(facts: Facts, route: Route) -> Reply | None:
    """An answer compressed for a client that accepts gzip, but different from MLflow's once it is decompressed."""
    reply, plain = facts.ask(route, ASKS_FOR_GZIP), facts.ask(route, UNCODED)
    is_coded = reply.status == plain.status == 200 and _coding(reply) == "gzip" and _is_plain(plain)
    return reply if is_coded and reply.body != plain.body else None


def _coding(reply: Reply) -> object:
    return reply.header("Content-Encoding")


def _is_plain(reply: Reply) -> bool:
    return _coding(reply) is None


def _is_undone(reply: Reply, plain: Reply) -> bool:
    """Tell whether a decompressed answer still has a compressed one's length or coding: it breaks off, or is plain."""
    if plain.status != 200:
        return False
    if reply.failure:
        return reply.failure in ("closed", "unanswered")
    came = reply.came.body if isinstance(reply.came, Answer) else b""
    is_cut_off = len(came) < len(plain.body)
    begins_alike = came != b"" and plain.body.startswith(came)
    return reply.status == 200 and begins_alike and (is_cut_off or _coding(reply) == "gzip")


def _undone(facts: Facts, route: Route) -> Reply | None:
    """Return an answer that clients can read only if they do not accept compression."""
    reply, plain = facts.ask(route, ASKS_FOR_GZIP), facts.ask(route, UNCODED)
    if not _is_undone(reply, plain):
        return None
    coded, uncoded = facts.ask_directly(ASKS_FOR_GZIP), facts.ask_directly(UNCODED)
    return None if coded and uncoded and _is_undone(coded, uncoded) else reply


def _is_undone_unasked(facts: Facts, seen: Stopped) -> bool:
    plain = facts.ask(seen.route, replace(READ, headers=PLAIN), carrier=seen.reply.question.carrier)
    return seen.by_every_carrier and plain.works and _is_undone(seen.reply, plain)


def _lost_download(facts: Facts, route: Route, own: Sandbox) -> Reply | None:
    """Return a download that succeeds without a body, although MLflow sends one."""
    upload = own.plain_file(f"{route}-kept")
    if facts.direct is None or (put := facts.ask_directly(upload)) is None or put.status != 200:
        return None
    reply = facts.difference(Request("GET", upload.path), None, lambda reply: (reply.status, reply.body), route)
    return reply if reply and reply.status == 200 and not reply.body else None


def _changed_download(facts: Facts, route: Route, own: Sandbox) -> Reply | None:
    """Return a download of binary data that differs from MLflow's own answer, and is not empty."""
    upload = Request("PUT", f"{own.artifacts}/{route}-binary.bin", body=BINARY)
    if (put := facts.ask_directly(upload)) is None or put.status != 200:
        return None
    reply = facts.difference(Request("GET", upload.path, PLAIN), None, lambda reply: (reply.status, reply.body), route)
    is_recoded = reply is not None and reply.status == 200 and reply.body != b"" and _is_plain(reply)
    return reply if is_recoded else None


def _short_download(facts: Facts, route: Route, own: Sandbox) -> Reply | None:
    """Return a download that succeeds although its end is missing."""
    upload = Request("PUT", f"{own.artifacts}/{route}-some.bin", body=SOME)
    if (put := facts.ask_directly(upload)) is None or put.status != 200:
        return None
    reply = facts.difference(Request("GET", upload.path, PLAIN), None, lambda reply: (reply.status, reply.body), route)
    is_cut = reply is not None and reply.status == 200 and reply.body != b"" and SOME.startswith(reply.body)
    return reply if is_cut else None


def _sanitised(facts: Facts, route: Route, own: Sandbox) -> Reply | None:
    """Return the write of a text that MLflow then holds with other characters, or the read of one that MLflow holds."""
    key = f"text-{facts.token()}"
    write = facts.ask(route, post("runs/set-tag", {"run_id": own.run_ids[0], "key": key, "value": TEXT}))
    if write.status != 200:
        return None
    read = get(f"runs/get?run_id={own.run_ids[0]}&of={key}")
    held, came = facts.ask_mlflow(route, read), facts.ask(route, read)
    return next((reply for reply, text in ((write, _tag(held, key)), (came, _tag(came, key))) if text not in (None, TEXT)), None)


def _tag(run: Reply, key: str) -> str | None:
    """Return the value of a run's tag, or None if there is none."""
    said = run.json()
    tags = said["run"]["data"].get("tags", ()) if isinstance(said, dict) and "run" in said else ()
    return next((str(tag["value"]) for tag in tags if tag["key"] == key), None)


def _tag_kept(facts: Facts, route: Route) -> Reply | None:
    """Return a page that was compressed on its way and has the same strong ETag as the plain page."""
    reply, plain, direct = facts.ask(route, PAGE_ZIPPED), facts.ask(route, PAGE_PLAIN), facts.ask_directly(PAGE_ZIPPED)
    if direct and _coding(direct):
        return None  # MLflow itself compresses it
    tag, are_pages = reply.header("ETag") or "", reply.status == plain.status == 200
    is_compressed = are_pages and not _is_plain(reply) and _is_plain(plain)
    return reply if is_compressed and tag.startswith('"') and tag == plain.header("ETag") else None


# Clients that decompress answers may not know this coding.
coded_for_everybody = status(200) & stops(lambda _, seen: _coding(seen.reply) is not None)


def _kept(body: bytes, headers: Headers = (), content: bytes | None = None) -> Sign:
    """Return the sign that an upload is accepted, but stored with different bytes."""

    def upload(own: Sandbox, by: object) -> Request:
        return Request("PUT", f"{own.artifacts}/{by}-{len(body)}-{len(headers)}.bin", headers, body)

    return needing("artifacts") & in_sandbox(_keeps(upload, content or body))


def _keeps(upload: Callable[[Sandbox, object], Request], content: bytes) -> Callable[[Facts, Route, Sandbox], Reply | None]:
    def keeps_other(facts: Facts, sent: Request) -> bool:
        held = facts.ask_directly(Request("GET", sent.path))
        return bool(held and held.status == 200 and held.body != content)

    def wrong(facts: Facts, route: Route, own: Sandbox) -> Reply | None:
        if facts.direct is None:
            return None
        reply = facts.ask(route, upload(own, route))
        if reply.status != 200 or not keeps_other(facts, reply.question.request):
            return None
        by_itself = upload(own, facts.direct)  # some versions of MLflow themselves store something other than what was sent
        facts.ask_directly(by_itself)
        return None if keeps_other(facts, by_itself) else reply

    return wrong


upload_recoded = shared("binary uploads are changed", _kept(BINARY))
large_upload_cut = needing("artifacts", "large-bodies") & in_sandbox(_keeps(Sandbox.large_file, LARGE))


CODING_LEFT = snippets(
    envoy="""
        routes:
          - match: { prefix: /mlflow/ }
            route: { cluster: mlflow, prefix_rewrite: /, timeout: 0s }
            typed_per_filter_config:
              envoy.filters.http.compressor:
                "@type": type.googleapis.com/envoy.extensions.filters.http.compressor.v3.CompressorPerRoute
                disabled: true
    """,
    nginx="""
        location /mlflow/ {
            gzip off;
            gunzip off;
        }
    """,
)

CAUSES = (
    Cause(
        id=CauseId("delete-body-dropped"),
        hop="proxy",
        severity="down",
        symptom="400 on deletions in the model registry",
        what="the proxy drops the body of DELETE requests",
        remedy="forward the bodies of all methods",
        shows=needing("registry", scope="write") & on_routes(unless(DELETE, repeats(NO_MODEL))),
        reddens=(
            r"test_(registered_models|prompts|scorers|datasets)\.py::test_(\w*delete|mistake\w*\[.*-delete)",
            r"test_patch_and_delete_with_body",
            r"denied_write\[.*-delete",
        ),
    ),
    Cause(
        id=CauseId("json-rewritten"),
        hop="proxy",
        severity="contract",
        symptom="answers differ from MLflow's byte by byte",
        what="the proxy parses JSON and serializes it again",
        remedy=UNCHANGED,
        shows=on_routes(differs(DEFAULT_EXPERIMENT, lambda reply: reply.body)),
        reddens=(
            CONVERSATIONS,
            ENDPOINTS,
            r"test_fidelity_(json\.py::test_answer|transfer\.py::test_(coded_answer|head|conditional))",
            r"test_(gateway|graphql)\.py",
            r"::test_(get_run|get_webhook)",
            r"test_ui\.py::test_(asset|start_page)",
        ),
    ),
    Cause(
        id=CauseId("big-numbers-rounded"),
        hop="proxy",
        severity="loss",
        symptom="the last digits of long numbers are lost",
        what="the proxy parses JSON numbers as double precision and serializes them again",
        remedy=UNCHANGED,
        shows=in_sandbox(_big_number),
        reddens=(r"test_fidelity_json\.py::test_(metrics|answer)",),
    ),
    Cause(
        id=CauseId("nan-nulled"),
        hop="proxy",
        severity="loss",
        symptom="metrics with the value NaN are refused",
        what="the proxy parses the JSON that it forwards with a parser that does not know NaN",
        remedy=UNCHANGED,
        shows=in_sandbox(_bare_word),
        reddens=(r"test_fidelity_json\.py::test_(bare_word\[.*-NaN|metrics)",),
    ),
    Cause(
        id=CauseId("http10-downgrade"),
        hop="proxy",
        severity="loss",
        symptom="some uploads and downloads succeed but are empty",
        what="bodies without a declared length are lost, as where the proxy speaks HTTP/1.0 to MLflow",
        remedy="use HTTP/1.1 for the upstream, and forward chunked bodies",
        reports=("mlflow#25009",),
        shows=_kept(THREE_IN_CHUNKS, CHUNKED, b"abc"),
        explains=(CauseId("answer-body-lost"),),
        reddens=(
            r"test_chunked_upload|test_odd_upload\[.*(chunk|trailers)|gzip-in-chunks",
            r"test_(artifacts|model_registration|logged_model_artifacts|own_client)\.py",
        ),
        fixes=snippets(
            nginx="""
                location /mlflow/ {
                    proxy_http_version 1.1; # most versions use 1.0 by default
                    proxy_set_header Connection "";
                }
            """
        ),
    ),
    Cause(
        id=CauseId("answer-cut"),
        hop="proxy",
        severity="loss",
        symptom="large downloads succeed, but their end is missing",
        what="the proxy passes on only the beginning of an answer that is larger than its buffer",
        remedy="stream answers",
        shows=(download_cut & holds(lambda facts: True if facts.direct else None))
        | (needing("artifacts") & in_sandbox(_short_download)),
        reddens=(*LARGE_DOWNLOADS,),
        fixes=snippets(
            nginx="""
                location /mlflow/ {
                    proxy_buffering off;
                }
            """
        ),
    ),
    Cause(
        id=CauseId("answer-body-lost"),
        hop="proxy",
        severity="loss",
        symptom="calls succeed, but their answers are empty",
        what="the proxy passes on the status of an answer without its body",
        remedy=UNCHANGED,
        shows=(status(200) & stops(lambda _, seen: not seen.reply.body)) | (needing("artifacts") & in_sandbox(_lost_download)),
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("body-cut"),
        hop="proxy",
        severity="loss",
        symptom="large uploads succeed, but their end is missing",
        what="the proxy buffers up to a megabyte of a request and drops the rest",
        remedy="stream requests",
        shows=_kept(SOME) | large_upload_cut | (download_cut & holds(lambda facts: False if facts.direct else None)),
        reddens=(*LARGE_UPLOADS,),
        fixes=snippets(
            nginx="""
                location /mlflow/ {
                    proxy_request_buffering off;
                    proxy_http_version 1.1; # for bodies of unknown length
                }
            """
        ),
    ),
    Cause(
        id=CauseId("content-recoded"),
        hop="proxy",
        severity="contract",
        symptom="clients get compressed answers that they did not ask for, or answers that they cannot decompress",
        what="the proxy compresses answers whatever the client accepts, or corrupts compressed answers",
        remedy="compress only for clients that accept it, or leave the content coding of answers to MLflow",
        shows=coded_for_everybody | on_routes(unless(UNCODED, _is_plain)) | on_routes(_unpacks_to_another),
        reddens=(
            CONVERSATIONS,
            ENDPOINTS,
            r"test_fidelity_(json\.py::test_(answer|malformed_body)|requests\.py|transfer\.py::(?!test_coded_answer))",
            r"test_coded_answer\[\w+-(none|br)?\]",
            r"test_ui\.py",
        ),
        fixes=CODING_LEFT,
    ),
    Cause(
        id=CauseId("strong-tag-kept"),
        hop="proxy",
        severity="hardening",
        symptom="resumed downloads and caches may mix compressed and plain content",
        what="the proxy compresses an answer and keeps its strong ETag, which promises identical bytes",
        remedy="make the ETag of compressed answers weak (W/), or drop it",
        reports=("https://www.rfc-editor.org/rfc/rfc9110.html#section-8.8.3.3",),
        shows=needing("ui") & on_routes(_tag_kept),
        reddens=(r"test_coded_answer\[\w+-(\*|gzip|identity)",),
        fixes=CODING_LEFT,
    ),
    Cause(
        id=CauseId("coding-headers-kept"),
        hop="proxy",
        severity="down",
        symptom="answers break off or cannot be decoded by clients that accept compression, as most do",
        what="the proxy decompresses answers, but keeps their Content-Length or Content-Encoding",
        remedy="remove both headers wherever a body is decompressed, or pass compressed answers on as they are",
        shows=on_routes(_undone) | stops(_is_undone_unasked),
        explains=tuple(map(CauseId, ("content-recoded", "route-closed", "answer-body-lost"))),
        reddens=(
            rf"^(?!.*(test_(bypass_\w+|fidelity_\w+|same_answers|every_endpoint|slow_calls|health)\.py|{DENIALS})).",
            r"test_coded_answer\[\w+-(\*|gzip|identity)",
        ),
        fixes=snippets(nginx=CODING_LEFT["nginx"]),
    ),
    Cause(
        id=CauseId("bodies-as-text"),
        hop="proxy",
        severity="loss",
        symptom="models and images are damaged, while text is not",
        what="the proxy decodes bodies as text and encodes them again, which changes binary data",
        remedy="pass bodies through as bytes, whatever their type",
        shows=upload_recoded | (needing("artifacts") & in_sandbox(_changed_download)),
        reddens=(
            r"test_artifacts\.py::test_(up|down)load\[.*-(binary|text)",
            r"test_artifacts\.py::test_(large_file|upload_folder|list_and_download)",
            r"test_fidelity_transfer\.py::test_(chunked_upload|odd_upload\[.*gzip|coded)",
            r"test_(smoke|model_registration|logged_model\w*|multipart_upload|otlp)\.py",
        ),
    ),
    Cause(
        id=CauseId("form-body-dropped"),
        hop="proxy",
        severity="loss",
        symptom="files that are uploaded with curl, or without a content type of their own, are stored empty",
        what="the proxy parses bodies that are typed as forms, and forwards nothing, or something else",
        remedy="pass bodies through as bytes, whatever their type",
        shows=_kept(b"a=1&b=2", FORM) & ~upload_recoded & ~_kept(b"a=1&b=2"),
        reddens=(r"test_fidelity_transfer\.py::test_odd_upload\[.*form",),
    ),
    Cause(
        id=CauseId("text-sanitised"),
        hop="proxy",
        severity="loss",
        symptom="notes, tags and parameters come back with &lt; for <, https for http, or without what looks like markup",
        what="the proxy replaces characters in JSON bodies, such as a protection against scripts, or a rewriting of links",
        remedy="pass bodies through unchanged: MLflow's pages escape what they show",
        shows=needing(scope="write") & in_sandbox(_sanitised),
        reddens=(r"test_fidelity_json\.py", r"test_\w*(tag|text|note|param|name)"),
    ),
    Cause(
        id=CauseId("request-decompressed"),
        hop="proxy",
        severity="loss",
        symptom="files that are uploaded compressed are stored uncompressed",
        what="the proxy decompresses request bodies",
        remedy="pass compressed bodies through",
        shows=_kept(ZIPPED, CODED) & ~upload_recoded,
        reddens=(r"test_fidelity_transfer\.py::test_(odd_upload|coded_request)\[.*gzip",),
        fixes=snippets(
            envoy="""
                http_filters:
                  - name: envoy.filters.http.decompressor
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.decompressor.v3.Decompressor
                      request_direction_config: { common_config: { enabled: { default_value: false, runtime_key: none } } }
            """
        ),
    ),
)
