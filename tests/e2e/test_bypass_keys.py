"""A key is the whole key, in its carrier: nothing shorter, longer or similar, and in no other place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote

import pytest

from mlflow_proxy_e2e.checks.attempts import ask, leads_elsewhere
from mlflow_proxy_e2e.checks.denials import NO_KEY
from mlflow_proxy_e2e.checks.gate import SEARCH, Gate
from mlflow_proxy_e2e.checks.oracle import assert_none_wrong
from mlflow_proxy_e2e.target import Carrier, Denial, Identity, Target, header_of, key_headers
from mlflow_proxy_e2e.timeouts import ATTEMPT
from mlflow_proxy_e2e.wire import Answer, Headers, Request, Wire, describe

LONG = 8192  # characters
TELLING = 10  # characters of a key: fewer reveal little about it, and may be words

# Derived from a good key, and invalid. {key} is the whole key, so that messages show the spelling and not the key.
LIKE_KEYS = (
    *("{shorter}", "{half}", "{stem}", "{stem}x", "{stem}*", "{stem}%", "{headless}", "{end}", "{swapped}", "{upper}", "{lower}"),
    *(
        "{changed}",
        "{key}x",
        "x{key}",
        "{key}{key}",
        "{key}.",
        ".{key}",
        "{key}*",
        "{key}%",
        "{key};",
        "{key},",
        ",{key}",
        "{key}, x",
    ),
    *(
        "x, {key}",
        "{key} x",
        "x {key}",
        "{key}%20",
        "{key}%00",
        "{key}%0a",
        "{key}/../x",
        "{key}#x",
        "{key}?x",
        "{key}&x",
        "{key}\\",
    ),
    *(
        '"{key}"',
        "'{key}'",
        "<{key}>",
        "[{key}]",
        "Bearer{key}",
        "Bearer Bearer {key}",
        "key={key}",
        "api_key={key}",
        "{key}:",
        ":{key}",
    ),
    *(
        "*",
        "%",
        "_",
        ".*",
        "null",
        "None",
        "undefined",
        "true",
        "0",
        "1",
        "-1",
        "''",
        "' OR '1'='1",
        '" OR ""="',
        "{{}}",
        "[]",
        "Bearer",
    ),
)
# Some servers do not accept these at all.
ODD_KEYS = (
    "",
    "{stem}\xe9",
    "{key}\xe9",
    "\xef\xbb\xbf{key}",
    "{key}\x00",
    "{key}\x00x",
    "{key}\x01",
    "{key}\x7f",
    "{long}",
    "{key}{long}",
)

OTHER_SCHEMES = (
    *("{key}", "Basic {key}", "Token {key}", "Digest {key}", "Negotiate {key}", "ApiKey {key}", "X-API-Key {key}", "X{key}"),
    *(
        "Bearer{key}",
        "Bearer:{key}",
        "Bearer={key}",
        "Bearer,{key}",
        "BearerX {key}",
        "XBearer {key}",
        "Bearer_ {key}",
        "Bear {key}",
    ),
)
PARAMETERS = (
    *("access_token", "api_key", "apikey", "api-key", "x-api-key", "X-API-Key", "API_KEY", "key", "token", "auth", "auth_token"),
    *("bearer", "bearer_token", "authorization", "Authorization", "jwt", "password", "mlflow_tracking_token"),
)
OTHER_PLACES: tuple[Headers, ...] = (
    (("Proxy-Authorization", "Bearer {key}"),),
    (("Authentication", "Bearer {key}"),),
    (("X-Authorization", "Bearer {key}"),),
    (("X-Forwarded-Authorization", "Bearer {key}"),),
    (("X-Original-Authorization", "Bearer {key}"),),
    (("X-Forwarded-Access-Token", "{key}"),),
    (("WWW-Authenticate", "Bearer {key}"),),
    (("X-Auth-Token", "{key}"), ("X-Access-Token", "{key}"), ("X-API-Token", "{key}"), ("X-Token", "{key}")),
    (("API-Key", "{key}"), ("ApiKey", "{key}"), ("X-APIKey", "{key}"), ("X-API-Key-Id", "{key}"), ("XAPI-Key", "{key}")),
    (("User-Agent", "Bearer {key}"), ("From", "{key}"), ("Referer", "https://example.com/?api_key={key}")),
    (("Cookie", "Authorization=Bearer {key}"),),
    (("Cookie", "X-API-Key={key}; api_key={key}; access_token={key}; token={key}; session={key}"),),
    (("Sec-WebSocket-Protocol", "bearer, {key}"),),
)


def parts(key: str) -> Mapping[str, str]:
    """Return the parts of a key, by name."""
    middle = len(key) // 2
    stem = key[: key.rfind("_") + 1] or key[:4]  # the common prefix of all keys of a kind
    return {
        "key": key,
        "shorter": key[:-1],
        "half": key[:middle],
        "stem": stem,
        "headless": key[1:],
        "end": key[len(stem) :],
        "swapped": key.swapcase(),
        "upper": key.upper(),
        "lower": key.lower(),
        "long": "x" * LONG,
        "changed": key[:middle] + ("x" if key[middle] != "x" else "y") + key[middle + 1 :],
    }


@pytest.fixture(autouse=True)
def keys_are_strings(target: Target) -> None:
    """Skip where users have passwords: in base64, a similar password is not similar."""
    if "basic" in target.carriers:
        pytest.skip("the target has users with passwords instead of keys")


class KeyInRequest:
    """Sends requests with the control's key in them, or something derived from it; messages show them without it."""

    def __init__(self, gate: Gate, control: Identity) -> None:
        assert control.key
        self._gate, self._parts = gate, parts(control.key.reveal())
        gate.hidden += [part for part in self._parts.values() if len(part) >= TELLING]

    def is_the_key(self, spelling: str) -> bool:
        """Tell whether the derived value is the key itself, such as one of digits in another case."""
        return spelling != "{key}" and spelling.format(**self._parts) == self._parts["key"]

    def attempt(self, shown: Request, denial: Denial | None = None) -> None:
        """Attempt a request whose headers, query and body contain names of the key's parts.

        Args:
            denial: the exact refusal that is expected (default: any refusal).
        """
        mark = self._gate.marks.new()
        shown = shown.marked(mark)
        wire = Wire(self._gate.route, timeout=ATTEMPT)
        self._gate.attempt(wire, self.filled(shown), mark, shown=shown, denial=denial)

    def filled(self, shown: Request) -> Request:
        """Return the request with the key's parts in place of their names."""
        headers = tuple((name, self._fill(value)) for name, value in shown.headers)
        return Request(shown.method, self._fill(shown.path), headers, self._fill(shown.body.decode()).encode())

    def _fill(self, text: str) -> str:
        for name, value in self._parts.items():
            text = text.replace(f"{{{name}}}", value)
        return text


@pytest.fixture
def key_in(gate: Gate, control: Identity) -> KeyInRequest:
    """Return what sends requests with the key of an identity that is allowed everything."""
    return KeyInRequest(gate, control)


@pytest.fixture
def denial(target: Target) -> Denial:
    """Return how a call without a key is refused."""
    return target.contract.denial(NO_KEY)


def carried(carrier: Carrier, spelling: str) -> Headers:
    """Return the header with a key of this spelling."""
    header, before = header_of(carrier)
    return ((header, f"{before}{spelling}"),)


def test_like_a_key(carrier: Carrier, gate: Gate, key_in: KeyInRequest, denial: Denial) -> None:
    """A part of a good key, a longer key, or a similar one, is not a key."""
    for spelling in LIKE_KEYS:
        if not key_in.is_the_key(spelling):
            key_in.attempt(replace(gate.subject.read(), headers=carried(carrier, spelling)), denial)

    gate.assert_shut()


def test_odd_key(carrier: Carrier, gate: Gate, key_in: KeyInRequest) -> None:
    """A value that cannot be a key, such as an empty one, invalid UTF-8, or eight thousand characters, is refused by some hop."""
    for spelling in ODD_KEYS:
        key_in.attempt(replace(gate.subject.read(), headers=carried(carrier, spelling)))

    gate.assert_shut()
    gate.assert_no_server_failed()


def test_other_scheme(gate: Gate, key_in: KeyInRequest, denial: Denial, target: Target) -> None:
    """A good key under a scheme that is not a carrier's, or under none, counts as no key."""
    schemes = {carried(carrier, "{key}") for carrier in target.carriers}
    for value in (value for value in OTHER_SCHEMES if (("Authorization", value),) not in schemes):
        key_in.attempt(replace(gate.subject.read(), headers=(("Authorization", value),)), denial)

    gate.assert_shut()


@pytest.mark.capability("destructive")
def test_key_in_another_header(gate: Gate, key_in: KeyInRequest, denial: Denial, target: Target) -> None:
    """A good key in another header counts as no key, even in a cookie, which browsers send by themselves."""
    carrying = {header_of(carrier)[0].lower() for carrier in target.carriers}
    for headers in OTHER_PLACES:
        if any(name.lower() in carrying for name, _ in headers):
            continue
        key_in.attempt(replace(gate.subject.read(), headers=headers), denial)

    gate.assert_shut()


def test_key_under_folded_name(gate: Gate, key_in: KeyInRequest) -> None:
    """A name with underscores, or with a space, is a different name, even if a server would fold it into a carrier's name."""
    for name in ("X_API_Key", "X-API_Key", "HTTP_X_API_KEY", "HTTP_AUTHORIZATION", "X.API.Key", "Authorization "):
        key_in.attempt(replace(gate.subject.read(), headers=((name, "Bearer {key}" if "AUTH" in name.upper() else "{key}"),)))

    gate.assert_shut()


@pytest.mark.capability("destructive")
def test_key_in_query(gate: Gate, key_in: KeyInRequest, denial: Denial) -> None:
    """A good key in the query counts as no key, whatever the parameter is called."""
    for parameter in PARAMETERS:
        for value in ("{key}", "Bearer%20{key}"):
            path = f"{gate.subject.read().path}&{quote(parameter)}={value}"
            key_in.attempt(Request("GET", path), denial)

    gate.assert_shut()


@pytest.mark.capability("destructive")
def test_key_in_path(gate: Gate, key_in: KeyInRequest) -> None:
    """A good key in the path counts as no key."""
    read = gate.subject.read().path
    for path in (f"/{{key}}{read}", f"/api_key/{{key}}{read}", f"/;api_key={{key}}{read}", read.replace("?", ";api_key={key}?")):
        key_in.attempt(Request("GET", path))

    gate.assert_shut()


def test_key_in_body(gate: Gate, key_in: KeyInRequest, denial: Denial) -> None:
    """A good key in the body of a search counts as no key."""
    what = {"experiment_ids": [gate.subject.experiment_id], "api_key": "{key}", "access_token": "{key}", "token": "{key}"}
    bodies = {
        "application/json": json.dumps(what),
        "application/x-www-form-urlencoded": "api_key={key}&access_token={key}&token={key}",
    }
    for kind, body in bodies.items():
        key_in.attempt(Request("POST", SEARCH, (("Content-Type", kind),), body.encode()), denial)

    gate.assert_shut()


def several_keys(carrier: Carrier) -> tuple[Headers, ...]:
    """Return the ways to send a good key and another value with one carrier, in several headers or in folded ones."""
    (name, good), (_, bad) = carried(carrier, "{key}")[0], carried(carrier, "x")[0]
    return (
        ((name, good), (name, bad)),
        ((name, bad), (name, good)),
        ((name, good), (name, good)),
        ((name, ""), (name, good)),
        ((name.lower(), bad), (name.upper(), good)),
        ((name, good.replace(" ", "\r\n ") if " " in good else f"\r\n {good}"),),
        ((name, f"{bad}\r\n {good}"),),
        (("X-Note", f"folded\r\n {name}: {good}"),),
    )


def test_several_keys(carrier: Carrier, gate: Gate, key_in: KeyInRequest) -> None:
    """A good key next to another value, or folded, is either refused, or accepted with MLflow's own answer."""
    wanted = gate.assert_open().body
    wire = Wire(gate.route, timeout=ATTEMPT)

    def send(headers: Headers) -> str | None:
        shown = replace(gate.subject.read(), headers=headers)
        came = ask(wire, key_in.filled(shown))
        if isinstance(came, Answer) and (leads_elsewhere(gate.route, came) or (came.status < 400 and came.body != wanted)):
            return describe(wire, shown, came, "a refusal, or MLflow's answer")
        return None

    assert_none_wrong([send(headers) for headers in several_keys(carrier)])


@pytest.mark.capability("scopes")
def test_keys_that_do_not_add_up(gate: Gate, reader: Identity, cannot_write: Identity, target: Target) -> None:
    """Two keys that cannot write do not write together: their permissions do not add up."""
    gate.assert_open_to_writes()
    keys = [{carrier: key_headers(identity, carrier) for carrier in target.carriers} for identity in (reader, cannot_write)]
    pairs = [(one, other) for one in keys[0].values() for other in keys[1].values()]

    for one, other in [*pairs, *((other, one) for one, other in pairs)]:
        mark = gate.marks.new()
        shown = gate.subject.write(mark).marked(mark)
        request = replace(shown, headers=(*one.items(), *other.items(), *shown.headers))
        gate.attempt(Wire(gate.route, timeout=ATTEMPT), request, mark, shown=shown)

    gate.assert_shut()


def test_name_in_any_case(carrier: Carrier, gate: Gate) -> None:
    """The name of a carrier may be upper or lower case, like that of any header."""
    wanted = gate.assert_open().body
    [(name, value)] = key_headers(gate.control, carrier).items()

    for spelled in (name.lower(), name.upper(), name.swapcase()):
        came = ask(Wire(gate.route, timeout=ATTEMPT), replace(gate.subject.read(), headers=((spelled, value),)))

        served = isinstance(came, Answer) and came.status == 200 and came.body == wanted
        assert served, f"{spelled} on {gate.route}: {came}"
