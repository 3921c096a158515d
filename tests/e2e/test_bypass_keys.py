"""A key is the whole key, in its carrier: nothing shorter, longer or like it, and in no other place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote

import pytest

from mlflow_proxy_e2e.checks.attempts import SEARCH, Gate, ask, leads_elsewhere, report
from mlflow_proxy_e2e.checks.denials import NO_KEY
from mlflow_proxy_e2e.clients import key_headers
from mlflow_proxy_e2e.target import Carrier, Identity, Target
from mlflow_proxy_e2e.timeouts import ATTEMPT
from mlflow_proxy_e2e.wire import Answer, Headers, Request, Wire, describe

LONG = 8192  # characters
TELLING = 10  # characters of a key: fewer of them say little about it, and may be words

# Made of a good key, but none. {key} is the whole of it, so that a message shows how a key was spelled and no key.
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
# A server may not take these at all.
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
    """Return what is made of a key, each part by its name."""
    middle = len(key) // 2
    stem = key[: key.rfind("_") + 1] or key[:4]  # what all keys of a kind begin with
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
    """Skip where users have passwords: in base64, what is like a password is not like what is sent of it."""
    if "basic" in target.carriers:
        pytest.skip("the target has users with passwords instead of keys")


class Placed:
    """Requests with a key, or what is made of it, in some place: as they are sent, and as they may be shown."""

    def __init__(self, gate: Gate, identity: Identity) -> None:
        assert identity.key
        self.gate, self._names = gate, parts(identity.key.reveal())
        gate.hidden += [part for part in self._names.values() if len(part) >= TELLING]

    def is_the_key(self, spelling: str) -> bool:
        """Tell whether what is made of the key is the key itself, as that of digits in another case is."""
        return spelling != "{key}" and spelling.format(**self._names) == self._names["key"]

    def attempt(self, shown: Request, target: Target | None = None) -> None:
        """Attempt a request whose headers, query and body have names of parts of the key in them.

        Args:
            target: whose exact refusal is expected (default: any refusal).
        """
        mark = self.gate.new_mark()
        shown = shown.marked(mark)
        headers = tuple((name, self.filled(value)) for name, value in shown.headers)
        request = Request(shown.method, self.filled(shown.path), headers, self.filled(shown.body.decode()).encode())
        denial = target.contract.denial(NO_KEY) if target else None
        self.gate.attempt(Wire(self.gate.route, timeout=ATTEMPT), request, mark, shown=shown, denial=denial)

    def filled(self, text: str) -> str:
        for name, value in self._names.items():
            text = text.replace(f"{{{name}}}", value)
        return text


@pytest.fixture
def placed(gate: Gate, control: Identity) -> Placed:
    """Return what places the key of an identity that may do everything."""
    return Placed(gate, control)


def carried(carrier: Carrier, spelling: str) -> Headers:
    """Return the header that carries what is spelled like that."""
    return (("Authorization", f"Bearer {spelling}"),) if carrier == "bearer" else (("X-API-Key", spelling),)


def test_like_a_key(carrier: Carrier, gate: Gate, placed: Placed, target: Target) -> None:
    """What is a part of a good key, or more than it, or like it, is no key."""
    for spelling in LIKE_KEYS:
        if not placed.is_the_key(spelling):
            placed.attempt(replace(gate.subject.read(), headers=carried(carrier, spelling)), target)

    gate.assert_shut()


def test_odd_key(carrier: Carrier, gate: Gate, placed: Placed) -> None:
    """What no key can be, empty, not text, or as long as a page, is refused by whoever sees it first."""
    for spelling in ODD_KEYS:
        placed.attempt(replace(gate.subject.read(), headers=carried(carrier, spelling)))

    gate.assert_shut()


def test_other_scheme(gate: Gate, placed: Placed, target: Target) -> None:
    """A good key under another scheme than Bearer, or none, is not what the contract says a key is sent as."""
    for value in OTHER_SCHEMES:
        placed.attempt(replace(gate.subject.read(), headers=(("Authorization", value),)), target)

    gate.assert_shut()


@pytest.mark.capability("destructive")
def test_key_in_another_header(gate: Gate, placed: Placed, target: Target) -> None:
    """A good key in another header, a cookie included, which browsers send by themselves, counts as no key."""
    for headers in OTHER_PLACES:
        placed.attempt(replace(gate.subject.read(), headers=headers), target)

    gate.assert_shut()


def test_key_under_folded_name(gate: Gate, placed: Placed) -> None:
    """A name with underscores, or with a space, is another name, even where a server would fold it into that of a carrier."""
    for name in ("X_API_Key", "X-API_Key", "HTTP_X_API_KEY", "HTTP_AUTHORIZATION", "X.API.Key", "Authorization "):
        placed.attempt(replace(gate.subject.read(), headers=((name, "Bearer {key}" if "AUTH" in name.upper() else "{key}"),)))

    gate.assert_shut()


@pytest.mark.capability("destructive")
def test_key_in_query(gate: Gate, placed: Placed, target: Target) -> None:
    """A good key in the query counts as no key, whatever the parameter is called."""
    for parameter in PARAMETERS:
        for value in ("{key}", "Bearer%20{key}"):
            path = f"{gate.subject.read().path}&{quote(parameter)}={value}"
            placed.attempt(Request("GET", path), target)

    gate.assert_shut()


@pytest.mark.capability("destructive")
def test_key_in_path(gate: Gate, placed: Placed) -> None:
    """A good key in the path counts as no key."""
    read = gate.subject.read().path
    for path in (f"/{{key}}{read}", f"/api_key/{{key}}{read}", f"/;api_key={{key}}{read}", read.replace("?", ";api_key={key}?")):
        placed.attempt(Request("GET", path))

    gate.assert_shut()


def test_key_in_body(gate: Gate, placed: Placed, target: Target) -> None:
    """A good key in the body of a search counts as no key."""
    what = {"experiment_ids": [gate.subject.experiment_id], "api_key": "{key}", "access_token": "{key}", "token": "{key}"}
    bodies = {
        "application/json": json.dumps(what),
        "application/x-www-form-urlencoded": "api_key={key}&access_token={key}&token={key}",
    }
    for kind, body in bodies.items():
        placed.attempt(Request("POST", SEARCH, (("Content-Type", kind),), body.encode()), target)

    gate.assert_shut()


def several(carrier: Carrier) -> tuple[Headers, ...]:
    """Return the ways to send a good key and another value by one carrier, in several headers or in folded ones."""
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


def test_several_keys(carrier: Carrier, gate: Gate, placed: Placed) -> None:
    """A good key beside another value, or folded, is refused, or counts: then the answer is MLflow's own."""
    wanted = gate.is_open().body
    found, ways = [], several(carrier)
    for headers in ways:
        shown = replace(gate.subject.read(), headers=headers)
        wire = Wire(gate.route, timeout=ATTEMPT)
        came = ask(wire, replace(shown, headers=tuple((name, placed.filled(value)) for name, value in headers)))
        if isinstance(came, Answer) and ((came.status < 400 and came.body != wanted) or leads_elsewhere(gate.route, came)):
            found.append(describe(wire, shown, came, "a refusal, or MLflow's answer"))
    report(found, len(ways))


@pytest.mark.capability("scopes")
def test_keys_that_do_not_add_up(gate: Gate, reader: Identity, cannot_write: Identity, target: Target) -> None:
    """Two keys of which neither may write do not together: what one may read and the other may elsewhere is not added up."""
    gate.is_open_to_writes()
    keys = [{carrier: key_headers(identity, carrier) for carrier in target.carriers} for identity in (reader, cannot_write)]
    pairs = [(one, other) for one in keys[0].values() for other in keys[1].values()]

    for one, other in [*pairs, *((other, one) for one, other in pairs)]:
        mark = gate.new_mark()
        shown = gate.subject.write(mark).marked(mark)
        request = replace(shown, headers=(*one.items(), *other.items(), *shown.headers))
        gate.attempt(Wire(gate.route, timeout=ATTEMPT), request, mark, shown=shown)

    gate.assert_shut()


def test_name_in_any_case(carrier: Carrier, gate: Gate, control: Identity) -> None:
    """The name of a carrier is the same in capitals and in small letters, as that of any header is."""
    wanted = gate.is_open().body
    [(name, value)] = key_headers(control, carrier).items()

    for spelled in (name.lower(), name.upper(), name.swapcase()):
        came = ask(Wire(gate.route, timeout=ATTEMPT), replace(gate.subject.read(), headers=((spelled, value),)))

        served = isinstance(came, Answer) and came.status == 200 and came.body == wanted
        assert served, f"{spelled} on {gate.route}: {came}"
