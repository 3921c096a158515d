"""What the auth service decides: which scope a call needs, and which service a key is for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.patterns import ALL, ENDPOINTS, KEY_LIFETIME, ODD_KEYS, VERSION_3, denied_to
from mlflow_proxy_e2e.causes.snippets import ASK, NORMALIZED, NOT_CACHED, snippets
from mlflow_proxy_e2e.facts.admission import decided_by, is_open_to_everybody, let_write_as, readers, wrongly_let_in
from mlflow_proxy_e2e.facts.comparisons import by_mlflow, in_sandbox
from mlflow_proxy_e2e.facts.facts import READ, Facts
from mlflow_proxy_e2e.facts.outage import opinion
from mlflow_proxy_e2e.facts.question import Question, Reply
from mlflow_proxy_e2e.facts.refused import forbidden_in_contract_words
from mlflow_proxy_e2e.facts.sandbox import API, HARMLESS_WRITE, Sandbox, post
from mlflow_proxy_e2e.facts.sign import Sign, holds, needing, on_each_route, on_routes, shared
from mlflow_proxy_e2e.facts.stopped import stops
from mlflow_proxy_e2e.target import Identity, Route
from mlflow_proxy_e2e.wire import JSON, Request

BY_METHOD_AND_PATH = "decide by method and path"
OTHER_METHODS = r"update-\w+|delete-\w+|tag-(logged-model|trace|dataset)|upload-artifact\b(?!-from)"  # the calls that take them
OF_DENIED_WRITES = (
    denied_to("reader"),
    r"of_denied_(write|delete)",
    r"test_record_without_permission\[.*-reader",
    rf"{ODD_KEYS}.*-reader",
)


SEARCHES = (  # reads, though they are sent with POST
    Request("POST", "/api/2.0/mlflow/experiments/search", JSON, b'{"max_results": 1}'),
    Request("POST", "/api/2.0/mlflow/runs/search", JSON, b'{"experiment_ids": [], "max_results": 1}'),
)
TRACES_SEARCH = Request("POST", "/api/3.0/mlflow/traces/search", JSON, b"{}")
WRITES_BY_OTHER_METHODS = (
    Request("PATCH", f"{API}/registered-models/update", JSON, b'{"name": "no-such", "description": "x"}'),
    Request("DELETE", f"{API}/registered-models/delete", JSON, b'{"name": "no-such"}'),
)
DOTS = ("/../", "/%2e%2e/", "/..%2f", "%2f..%2f", "/..;/", "/x/../../")
UNLISTED = post("runs/no-such-endpoint", {})
# A GET with a side effect: it makes MLflow call another service.
ACTING_READ = Request("GET", "/ajax-api/2.0/mlflow/gateway-proxy?gateway_path=api/2.0/endpoints")
SCHEME = "Bearer"
FIRST_CALLS = 2  # of each kind: one of the spellings may have been sent before


def _of_readers(test: Callable[[Facts, Route, Identity], Reply | None]) -> Sign:
    """Return the sign that a read-only identity is allowed something it should be refused."""

    def wrong(facts: Facts, route: Route) -> Reply | None:
        if is_open_to_everybody(facts):
            return None
        return next((reply for reader in readers(facts) if (reply := test(facts, route, reader))), None)

    return decided_by(on_each_route(wrong, "auth"))


def _refused_read(facts: Facts, route: Route, reader: Identity) -> Reply | None:
    """A search that is refused because it is sent with POST, if all such searches are refused and other reads are not."""
    if not facts.ask(route, READ, reader).works:
        return None
    replies = [facts.ask(route, request, reader) for request in SEARCHES]
    may = all(facts.ask(route, request).status == 200 for request in SEARCHES)
    return replies[0] if may and all(reply.status == facts.target.contract.forbidden for reply in replies) else None


def _let_write(facts: Facts, route: Route, reader: Identity) -> Reply | None:
    return let_write_as(facts, route, reader, HARMLESS_WRITE)


def _spellings(facts: Facts) -> Iterator[str]:
    """Return ``Bearer`` in unusual upper and lower case, which hardly any client sends: case does not count (RFC 9110, 11.1)."""
    odd = 2 ** len(SCHEME) - 2  # spellings besides the usual one and its opposite
    for chosen in list(dict.fromkeys(1 + byte % odd for byte in bytes.fromhex(facts.token())))[: 2 * FIRST_CALLS]:
        yield "".join(letter.swapcase() if chosen >> place & 1 else letter for place, letter in enumerate(SCHEME))


def _spelled(route: Route, request: Request, reader: Identity, scheme: str, when: str) -> Question:
    """Return a read-only identity's question, which a cache by header takes for the first with a new key."""
    key = reader.key.reveal() if reader.key else ""
    headers = (*request.headers, ("Authorization", f"{scheme} {key}"))
    return Question(route, replace(request, headers=headers), Identity(f"{reader} {when}"))


def _writes_first_and_after_a_read(facts: Facts, route: Route) -> tuple[list[Reply], list[Reply]]:
    """Return the replies to a write as a read-only key's first call, and to the same write after a read that works."""
    if "bearer" not in facts.target.carriers or not readers(facts):
        return [], []
    reader, spellings = readers(facts)[0], list(_spellings(facts))
    firsts = [_spelled(route, HARMLESS_WRITE, reader, scheme, "at first") for scheme in spellings[:FIRST_CALLS]]
    reads = [_spelled(route, READ, reader, scheme, "at first") for scheme in spellings[FIRST_CALLS:]]
    read = [scheme for scheme, reply in zip(spellings[FIRST_CALLS:], facts.replies(reads), strict=True) if reply.works]
    afters = [_spelled(route, HARMLESS_WRITE, reader, scheme, "after a read") for scheme in read]
    return facts.replies(firsts), facts.replies(afters)


def _is_forbidden(facts: Facts, reply: Reply) -> bool:
    return reply.status == facts.target.contract.forbidden and reply.error_code != "RESOURCE_DOES_NOT_EXIST"


def _let_after_read(facts: Facts, route: Route) -> Reply | None:
    """Return a write with a read-only key that is let in after a read, but refused as the key's first call."""
    if is_open_to_everybody(facts):
        return None
    firsts, afters = _writes_first_and_after_a_read(facts, route)
    if not any(_is_forbidden(facts, reply) for reply in firsts):
        return None
    taken = facts.ask(route, HARMLESS_WRITE)
    if taken.status in (401, 403) or _is_forbidden(facts, taken):
        return None
    return next((reply for reply in afters if (reply.status, reply.body) == (taken.status, taken.body)), None)


def _is_let_at_first(facts: Facts) -> bool | None:
    """Tell whether a read-only key's first call may be a write, too. UNKNOWN unless something shows that calls are told apart."""
    return facts.once(_let_at_first)


def _let_at_first(facts: Facts) -> bool | None:
    route = facts.open_routes[0]
    firsts, _ = _writes_first_and_after_a_read(facts, route)
    if any(_is_forbidden(facts, reply) for reply in firsts):
        return False
    # If every call of the key is permitted, its decision may be cached whatever the spelling: its first call cannot be repeated.
    return True if any(_is_forbidden(facts, facts.ask(route, UNLISTED, reader)) for reader in readers(facts)) else None


def _let_by_other_method(facts: Facts, route: Route, reader: Identity) -> Reply | None:
    if _let_write(facts, route, reader):
        return None
    return next((reply for request in WRITES_BY_OTHER_METHODS if (reply := let_write_as(facts, route, reader, request))), None)


def _let_upload(facts: Facts, route: Route, own: Sandbox) -> Reply | None:
    for reader in readers(facts):
        reply = facts.ask(route, own.plain_file(f"{route}-{reader}"), reader)
        nobody = facts.reply(Question(route, own.plain_file(f"{route}-nobody")))
        if reply.status == 200 != nobody.status and not _let_write(facts, route, reader):
            return reply
    return None


def _refused_post(facts: Facts, route: Route) -> Reply | None:
    """A write with POST that is forbidden even to a key that is allowed everything."""
    reply = facts.ask(route, HARMLESS_WRITE)
    return reply if reply.status == facts.target.contract.forbidden else None


def _let_behind_read(facts: Facts, route: Route, reader: Identity) -> Reply | None:
    """A write whose path starts like a search but resolves to something else once its dot segments are followed."""
    if _let_write(facts, route, reader):
        return None
    requests = [replace(HARMLESS_WRITE, path=f"{API}/runs/search{dots}delete") for dots in DOTS]
    facts.replies(facts.question(route, request, reader) for request in requests)
    return next((reply for request in requests if (reply := let_write_as(facts, route, reader, request, HARMLESS_WRITE))), None)


def _let_unlisted(facts: Facts, route: Route, reader: Identity) -> Reply | None:
    """A read-only identity's call to an endpoint that MLflow does not have, forwarded to MLflow instead of refused."""
    if "basic" in facts.target.carriers or _let_write(facts, route, reader):
        return None  # MLflow's own user check refuses only calls to something that exists
    reply = facts.ask(route, UNLISTED, reader)
    return reply if by_mlflow(reply) else None


def _acts(facts: Facts, route: Route, reader: Identity) -> Reply | None:
    if _let_write(facts, route, reader):
        return None
    reply, may, direct = facts.ask(route, ACTING_READ, reader), facts.ask(route, ACTING_READ), facts.ask_directly(ACTING_READ)
    by_mlflow = direct is not None and may.status == direct.status and may.status != 404
    return reply if by_mlflow and (reply.status, reply.body) == (may.status, may.body) else None


def _not_in_table(facts: Facts, route: Route) -> Reply | None:
    """A call of MLflow's API version 3 that is forbidden in the contract's own words, so not by some other hop."""
    reply = facts.ask(route, TRACES_SEARCH)
    return reply if reply.status == facts.target.contract.forbidden and reply.error_code else None


let_write = _of_readers(_let_write)
by_other_method = (needing("registry") & _of_readers(_let_by_other_method)) | (
    needing("artifacts") & decided_by(in_sandbox(_let_upload, "auth"))
)
posts_refused = shared("writes with POST are refused", on_each_route(_refused_post, "auth"))


CAUSES = (
    Cause(
        id=CauseId("scope-not-checked"),
        hop="auth",
        severity="open",
        symptom="read-only keys can write",
        what="the auth service does not require the write scope",
        remedy="require the write scope for every call that changes something",
        shows=let_write & holds(_is_let_at_first),
        reddens=(
            *OF_DENIED_WRITES,
            ENDPOINTS,
        ),
    ),
    Cause(
        id=CauseId("decision-cached"),
        hop="auth",
        severity="open",
        symptom="a read-only key can write once it has read, or cannot read once it was refused a write",
        what="the decision about a key's first call is cached under the key alone, and reused for all of its calls",
        remedy="cache decisions under the key, method and path together, or not at all",
        reports=("https://docs.aws.amazon.com/apigateway/latest/developerguide/configure-api-gateway-lambda-authorization.html",),
        shows=decided_by(on_routes(_let_after_read, "auth")) | (let_write & ~holds(_is_let_at_first)),
        explains=tuple(map(CauseId, ("scope-not-checked", "read-key-denied-read", "revocation-lag"))),
        reddens=(
            *OF_DENIED_WRITES,
            r"-reader",
            KEY_LIFETIME,
            r"test_identities_take_turns|_in_flight",
            rf"{ENDPOINTS}::test_who_may_call",
        ),
        fixes=NOT_CACHED,
    ),
    Cause(
        id=CauseId("method-taken-for-scope"),
        hop="auth",
        severity="open",
        symptom="read-only keys can update, delete and upload, though they cannot create",
        what="only POST counts as a write, but MLflow writes with PATCH, DELETE and PUT as well",
        remedy=BY_METHOD_AND_PATH,
        shows=by_other_method & ~posts_refused,
        reddens=(
            rf"{denied_to('reader')}.*-({OTHER_METHODS})",
            r"of_denied_delete",
            rf"{ENDPOINTS}::test_who_may_call",
        ),
    ),
    Cause(
        id=CauseId("write-behind-read-path"),
        hop="auth",
        severity="open",
        symptom="a read-only key can write, through a path that begins like a search and continues with dot segments",
        what="the scope is decided by how the path begins, but dot segments are resolved only when the call is forwarded",
        remedy="decide on the path as it will be forwarded: normalize it first, or refuse paths that are not normalized",
        shows=_of_readers(_let_behind_read),
        reddens=(r"test_bypass_paths\.py::test_odd_path_of_denied_write\[.*looks-like-a-read",),
        fixes=snippets(envoy=NORMALIZED["Envoy"], nginx=ASK["nginx"]),
    ),
    Cause(
        id=CauseId("method-ignored"),
        hop="auth",
        severity="open",
        symptom="read-only keys can upload and delete artifacts, while nobody can create anything",
        what="the scope is decided as if every call were a GET: the proxy does not pass the method on, or it is ignored",
        remedy="ask about the call's own method (in nginx, proxy_method $request_method), and decide by method and path",
        shows=by_other_method & posts_refused,
        explains=(CauseId("scopes-table-old"),),
        reddens=(r"::test_(?!get_|list_|search_|read)",),
        fixes=snippets(nginx=ASK["nginx"]),
    ),
    Cause(
        id=CauseId("unlisted-endpoint-open"),
        hop="auth",
        severity="open",
        symptom="read-only keys can call endpoints that the auth service does not know, such as the writes of a newer MLflow",
        what="the auth service permits endpoints that its table does not list",
        remedy="deny endpoints that are not listed",
        shows=_of_readers(_let_unlisted),
        reddens=(r"test_denied_unlisted_endpoint\[.*-reader",),
    ),
    Cause(
        id=CauseId("get-taken-for-read"),
        hop="auth",
        severity="open",
        symptom="read-only keys can trigger actions in MLflow",
        what="every GET counts as a read, but some of MLflow's GET endpoints change something",
        remedy=BY_METHOD_AND_PATH,
        shows=_of_readers(_acts),
        reddens=(
            r"test_denied_get_that_acts\[.*-reader",
            rf"{ENDPOINTS}::test_who_may_call",
        ),
    ),
    Cause(
        id=CauseId("read-key-denied-read"),
        hop="auth",
        severity="down",
        symptom="403 on searches with a read-only key",
        what="every POST counts as a write, but MLflow searches with POST",
        remedy=BY_METHOD_AND_PATH,
        shows=_of_readers(_refused_read),
        reddens=(
            r"reader.*-(search|query-graphql)",
            r"::test_(search|page)_\w+\[.*-reader",
            rf"{ENDPOINTS}::test_who_may_call",
        ),
    ),
    Cause(
        id=CauseId("scopes-table-old"),
        hop="auth",
        severity="down",
        symptom="403 on traces and datasets even with an all-scopes key, while experiments and runs work",
        what="MLflow is newer than the auth service's table of endpoints, which denies what it does not list",
        remedy="add MLflow's new endpoints to the table",
        shows=needing("traces") & on_each_route(_not_in_table, "auth"),
        reddens=(
            *VERSION_3,
            rf"{ENDPOINTS}.*api-3",
        ),
    ),
    Cause(
        id=CauseId("service-not-checked"),
        hop="auth",
        severity="open",
        symptom="a key for another service is let in",
        what="the auth service does not check that a key is for the service that is called",
        remedy="answer 403 if the key is for another service",
        shows=wrongly_let_in(lambda who: who.refused == "forbidden"),
        reddens=(
            r"-other-service",
            ENDPOINTS,
        ),
    ),
    Cause(
        id=CauseId("wrong-service-id"),
        hop="auth",
        severity="down",
        symptom="403 on every call with a good key",
        what="the proxy names the wrong service when it asks the auth service, so that no key fits",
        remedy="configure the proxy with the service that the keys are issued for",
        shows=(forbidden_in_contract_words & stops(lambda facts, _: True if opinion(facts) else None)).located("auth"),
        reddens=(ALL,),
        fixes=ASK,
    ),
)
