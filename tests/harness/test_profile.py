"""The profile of a deployed target: what it says takes effect, and all its errors are reported together, without a key."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

import pytest
import trustme

from mlflow_proxy_e2e.errors import BadProfileError
from mlflow_proxy_e2e.profile import REQUESTS_PER_SECOND, load
from mlflow_proxy_e2e.target import Acceptance, Contract, Identity, KeyService, Limits, Policy, Route, Secret, key_headers
from tests.harness.conftest import StartRun

KEYS: Mapping[str, str] = {
    "E2E_KEY_PLATFORM": "hk_test_platform",
    "E2E_KEY_READER": "hk_test_reader",
    "E2E_KEY_REVOKED": "hk_test_revoked",
    "E2E_ADMIN_TOKEN": "token-of-the-admin",
    "WITH_NEWLINE": "hk_test_newline\n",
    "WITH_SPACE": "hk_test two",
    "WITH_TAB": "hk_test\ttwo",
    "NOT_UTF_8": "hk_test\udcff",
    "NOTHING": "",
}
FULL = """
name = "staging"
capabilities = ["scopes", "artifacts"]
carriers = ["x-api-key", "bearer"]

[routes.external]
url = "https://registry.example.com/api/mlflow/"
ca = "ca.pem"
proxy = "http://proxy.example.com:3128/"

[routes.internal]
url = "http://api.internal:8001/mlflow"

[routes.direct]
url = "http://mlflow.internal:5000"

[identities.platform]
key = "env:E2E_KEY_PLATFORM"
scopes = ["read", "write"]

[identities.reader]
key = "env:E2E_KEY_READER"
scopes = ["read"]

[identities.revoked]
key = "env:E2E_KEY_REVOKED"
denied = "unauthenticated"

[expect]
forbidden = 404
errors = "any"
unauthenticated_header = ""
open_paths = ["/health"]

[scopes]
policy = "method"
"POST /ajax-api/3.0/mlflow/ui-telemetry" = "read"
"GET /{api}/2.0/mlflow-artifacts/presigned/**" = "denied"

[accept]
"key-echoed" = "ticket 123; until 2027-03-01"
"tests/e2e/test_ui.py::*" = "no pages here yet"

[limits]
requests_per_second = 5
requests = 1000
large_bodies = true

[keys]
url = "http://auth.internal:8002"
service_id = "mlflow"
token = "env:E2E_ADMIN_TOKEN"
"""
BASIC = """
name = "mlflow-users"
capabilities = ["artifacts"]
carriers = ["basic"]

[routes.internal]
url = "http://mlflow.internal:5000"

[identities.alice]
user = "alice"
password = "env:E2E_KEY_PLATFORM"
scopes = ["read", "write"]
"""


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variables that profiles name."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path for a profile, next to an authority's certificate."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    (tmp_path / "no-ca.pem").write_text("nothing of the kind")
    return tmp_path / "staging.toml"


def test_what_a_profile_says_is_taken_over(file: Path) -> None:
    """Every entry, with trailing slashes stripped from URLs and files looked up next to the profile."""
    file.write_text(FULL)

    target = load(file)

    assert target.name == "staging"
    assert target.routes == (
        Route("external", "https://registry.example.com/api/mlflow", str(file.parent / "ca.pem"), "http://proxy.example.com:3128"),
        Route("internal", "http://api.internal:8001/mlflow"),
    )
    assert target.direct == Route("direct", "http://mlflow.internal:5000")
    assert target.carriers == ("x-api-key", "bearer")
    assert target.capabilities == {"scopes", "artifacts", "large-bodies"}
    assert target.contract == Contract(forbidden=404, errors="any", unauthenticated_header="", open_paths=("/health",))
    assert target.policy == Policy(
        "method",
        (
            ("POST /ajax-api/3.0/mlflow/ui-telemetry", "read"),
            ("GET /{api}/2.0/mlflow-artifacts/presigned/**", "denied"),
            ("GET /health", "open"),
        ),
    )
    assert target.accepted == (
        Acceptance("key-echoed", "ticket 123; until 2027-03-01", "2027-03-01"),
        Acceptance("tests/e2e/test_ui.py::*", "no pages here yet"),
    )
    assert target.limits == Limits(5, 1000)
    assert target.keys == KeyService("http://auth.internal:8002", "mlflow", Secret("token-of-the-admin"))
    assert target.identities == (
        Identity("platform", frozenset({"read", "write"}), None, Secret("hk_test_platform"), "x-api-key", "E2E_KEY_PLATFORM"),
        Identity("reader", frozenset({"read"}), None, Secret("hk_test_reader"), "x-api-key", "E2E_KEY_READER"),
        Identity("revoked", frozenset(), "unauthenticated", Secret("hk_test_revoked"), "x-api-key", "E2E_KEY_REVOKED"),
        Identity("anonymous", refused="unauthenticated"),
    )


def test_users_of_mlflow_itself(file: Path) -> None:
    """A user and a password are one key; they, and the header made of them, are secret. A target always has limits."""
    file.write_text(BASIC)

    target = load(file)

    (alice, _) = target.identities
    assert alice.key == Secret("alice:hk_test_platform")
    assert alice.user == "alice"
    assert Secret("hk_test_platform") in target.secrets
    assert Secret("YWxpY2U6aGtfdGVzdF9wbGF0Zm9ybQ==") in target.secrets
    assert target.limits == Limits(REQUESTS_PER_SECOND, None)


@pytest.mark.parametrize("password", ["two words", "Grüße 模型"])
def test_password_that_no_header_carries(file: Path, monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    """A password may have spaces and letters of any script: what is sent of it is base64 of its UTF-8."""
    monkeypatch.setenv("E2E_KEY_PLATFORM", password)
    file.write_text(BASIC)

    sent = key_headers(load(file).identity("alice"))

    assert base64.b64decode(sent["Authorization"].removeprefix("Basic ")).decode() == f"alice:{password}"


@pytest.mark.parametrize(
    ("there", "instead", "message"),
    [
        ('name = "staging"', "", "name is missing: it should be a string in quotes."),
        ('name = "staging"', 'name = "our staging"', "name should be a word of letters, digits"),
        ('name = "staging"', 'nmae = "staging"', "nmae is unknown: valid are accept, capabilities, carriers, expect,"),
        ('"artifacts"]', '"artefacts"]', "capabilities has unknown values, at position 2: valid are scopes, rate-limit,"),
        ('"artifacts"]', '"large-bodies"]', "capabilities has unknown values, at position 2: valid are scopes, rate-limit,"),
        ('"artifacts"]', '"scopes"]', "capabilities has repeated values."),
        ('["scopes", "artifacts"]', '"scopes"', "capabilities should be a list."),
        (
            '"x-api-key", "bearer"',
            '"cookie"',
            "carriers has unknown values, at position 1: valid are bearer, apikey, x-api-key, basic, and headers by name",
        ),
        ('"x-api-key", "bearer"', "", "carriers should have at least one of bearer, apikey, x-api-key, basic, and"),
        ('"x-api-key", "bearer"', '"basic", "bearer"', "carriers has 'basic' among others:"),
        ("https://registry", "registry", "routes.external.url should begin with http:// or https://."),
        ("https://registry", "https://registry prod", "routes.external.url should be a URL without white space"),
        ("https://registry", "https://me:pass@registry", "routes.external.url contains a user or a password,"),
        ("example.com/api/mlflow/", "example.com:http/", "routes.external.url is not a URL: its host or its port cannot be read."),
        ("registry.example.com/", "/", "routes.external.url has no host"),
        ("/api/mlflow/", "/api/mlflow?x=1", "routes.external.url has a query or a fragment:"),
        ("/api/mlflow/", "/mlflow/api/2.0/mlflow", "routes.external.url includes a part of MLflow's own paths:"),
        ('url = "http://api.internal:8001/mlflow"', "", "routes.internal.url is missing: it should be a string in quotes."),
        (
            "http://api.internal:8001/mlflow",
            "http://mlflow.internal:5000",
            "routes.direct.url is the same as that of routes.internal:",
        ),
        ("[routes.internal]", "[routes.External]", "routes.External is too similar to routes.external to be told apart."),
        ("[routes.internal]", '[routes."in house"]', "routes has a name that is not a word"),
        ("ca.pem", "none.pem", "none.pem: No such file or directory."),
        ("ca.pem", "no-ca.pem", "no-ca.pem: it has no PEM certificate."),
        ("ca.pem", r"ca\u0000.pem", "routes.external.ca contains a NUL, which no file name can."),
        ("https://registry", "http://registry", "routes.external.ca has no effect: the route's url does not begin with https://."),
        ("http://proxy.example.com:3128/", "socks5://p", "routes.external.proxy should begin with http:// or https://."),
        ("http://proxy.example.com:3128/", "http://p/path", "routes.external.proxy should be the URL of an HTTP proxy,"),
        ('key = "env:E2E_KEY_READER"', "", 'identities.reader.key is missing: it should be "env:VARIABLE".'),
        ("env:E2E_KEY_READER", "hk_test_reader", "identities.reader.key should name an environment variable, as in"),
        ("env:E2E_KEY_READER", "env:NOT_SET", "identities.reader.key names NOT_SET, which is not set."),
        ("env:E2E_KEY_READER", "env:NOTHING", "identities.reader.key names NOTHING, which is empty."),
        ("env:E2E_KEY_READER", "env:WITH_NEWLINE", "WITH_NEWLINE, whose value begins or ends with white space or a newline:"),
        ("env:E2E_KEY_READER", "env:WITH_SPACE", "WITH_SPACE, whose value contains white space or characters"),
        ("env:E2E_KEY_READER", "env:E2E_KEY_PLATFORM", "identities.reader.key is the key of identities.platform, which has other"),
        ("[identities.reader]", "[identities.Platform]", "identities.Platform is too similar to identities.platform"),
        ("[identities.reader]\n", "[identities.reader]\nuser = 'r'\n", 'identities.reader.user is for carriers = ["basic"] only.'),
        ("until 2027-03-01", "until 2027-02-30", "accept.key-echoed ends with an invalid date: it should look like"),
        ('"no pages here yet"', '" "', "accept.tests/e2e/test_ui.py::* should say why it is accepted."),
        ('"no pages here yet"', "1", "accept.tests/e2e/test_ui.py::* should be a string in quotes."),
        (
            '["/health"]',
            '["/health?x"]',
            'expect.open_paths should have paths below the routes or on their servers, such as "/health",',
        ),
        ('["/health"]', '["/api/2.0/mlflow/experiments/search"]', "expect.open_paths has /api/2.0/mlflow/experiments/search,"),
        ('policy = "method"', 'policy = "path"', "scopes.policy should be one of endpoint, method."),
        (
            '"read"\n"GET',
            '"reed"\n"GET',
            "scopes.POST /ajax-api/3.0/mlflow/ui-telemetry should be one of read, write, denied",
        ),
        (
            "ui-telemetry",
            "ui-telemetri",
            "scopes.POST /ajax-api/3.0/mlflow/ui-telemetri matches no endpoint of MLflow: it",
        ),
        ("POST /ajax", "PUT /ajax", "scopes.PUT /ajax-api/3.0/mlflow/ui-telemetry matches no endpoint of MLflow: it"),
        (
            'GET /{api}/2.0/mlflow-artifacts/presigned/**" =',
            'GET /{api}/2.0/mlflow/experiments/*" =',
            "scopes.GET /{api}/2.0/mlflow/experiments/* is 'denied' and includes GET /api/2.0/mlflow/experiments/search, which",
        ),
        ('scopes = ["read"]', "", 'identities.reader.scopes is missing: ["read"], or ["read", "write"], or denied ='),
        ('scopes = ["read"]', 'scopes = ["write"]', 'identities.reader.scopes should be ["read", "write"]:'),
        (
            'scopes = ["read"]',
            'scopes = ["raed"]',
            "identities.reader.scopes has unknown values, at position 1: valid are read, write.",
        ),
        (
            '"scopes", "artifacts"',
            '"artifacts"',
            "identities.reader.scopes is limited to reading, which requires the capability 'scopes'.",
        ),
        ('denied = "unauthenticated"', 'denied = "gone"', "identities.revoked.denied should be one of unauthenticated, forbidden,"),
        ('denied = "unauthenticated"', 'denied = "throttled"', "is 'throttled', which requires the capability 'rate-limit'."),
        ('denied = "unauthenticated"', 'denied = "forbidden"\nscopes = ["read"]', "identities.revoked.scopes should be left out:"),
        ("forbidden = 404", "forbidden = 200", "expect.forbidden should be a status from 400 to 599."),
        ("forbidden = 404", "forbidden = true", "expect.forbidden should be an integer."),
        ("forbidden = 404", "forbiden = 404", "expect.forbiden is unknown: valid are auth_outage, errors, forbidden,"),
        ('errors = "any"', 'errors = "html"', "expect.errors should be one of mlflow, any."),
        ('_header = ""', '_header = "a b"', "expect.unauthenticated_header should be the name of a header, or empty."),
        ("requests = 1000", "requests = 0", "limits.requests should be at least 1."),
        ("large_bodies = true", "large_bodies = 1", "limits.large_bodies should be true or false."),
        ("env:E2E_ADMIN_TOKEN", "token-of-the-admin", "keys.token should name an environment variable, as in"),
        ("[routes.internal]", "[routes.external]", "is not TOML: "),
        ('name = "staging"', "name =", "is not TOML: "),
    ],
)
def test_what_is_wrong_is_named(file: Path, there: str, instead: str, message: str) -> None:
    """The file, the entry and how to fix it, and no key."""
    assert there in FULL
    file.write_text(FULL.replace(there, instead))

    with pytest.raises(BadProfileError) as raised:
        load(file)

    said = str(raised.value)
    assert said.startswith(str(file))
    assert message in said
    assert not any(value.strip() in said for value in KEYS.values() if value)
    assert "pass@" not in said


@pytest.mark.parametrize(
    ("there", "instead", "message"),
    [
        ('user = "alice"', "", "identities.alice should have both user and password, or neither."),
        ('user = "alice"', 'user = "al:ice"', "identities.alice.user should be a name without white space and colons."),
        ("password", "key", 'identities.alice.key is not for carriers = ["basic"]: give user and password.'),
        ("env:E2E_KEY_PLATFORM", "env:WITH_TAB", "WITH_TAB, whose value contains white space or characters"),
        ("env:E2E_KEY_PLATFORM", "env:NOT_UTF_8", "NOT_UTF_8, whose value contains white space or characters"),
        ("env:E2E_KEY_PLATFORM", "hk_test_platform", "identities.alice.password should name an environment variable"),
        ("[routes.internal]", "[routes.direct]", "routes should have at least one besides 'direct'"),
        (
            'scopes = ["read", "write"]',
            'denied = "forbidden"',
            'identities should have at least one with a key and scopes = ["read"]',
        ),
    ],
)
def test_what_is_wrong_with_users_is_named(file: Path, there: str, instead: str, message: str) -> None:
    """The same for a target with MLflow's own users."""
    assert there in BASIC
    file.write_text(BASIC.replace(there, instead))

    with pytest.raises(BadProfileError) as raised:
        load(file)

    assert message in str(raised.value)
    assert "hk_test_platform" not in str(raised.value)


def test_everything_that_is_wrong_is_told_at_once(file: Path) -> None:
    """Several errors in a profile are reported in one run."""
    file.write_text(FULL.replace('"staging"', '""').replace("https://registry", "registry").replace("= 404", "= 20"))

    with pytest.raises(BadProfileError) as raised:
        load(file)

    named = [line.split()[0] for line in str(raised.value).splitlines()[1:]]
    assert named == ["expect.forbidden", "name", "routes.external.url"]


def test_a_target_that_cannot_be_reached(start_run: StartRun, tmp_path: Path) -> None:
    """A run ends before its first test, with one reason for each route."""
    profile = tmp_path / "nowhere.toml"
    profile.write_text(
        BASIC.replace("http://mlflow.internal:5000", "http://127.0.0.1:9").replace("[identities", NOWHERE + "[identities", 1)
    )

    run = start_run(f"--target={profile}", E2E_KEY_PLATFORM=KEYS["E2E_KEY_PLATFORM"])

    assert run.wait() == 24, run.output
    assert "The target 'mlflow-users' cannot be reached:" in run.output
    assert "  internal  http://127.0.0.1:9: Connection refused." in run.output
    assert "  external  https://mlflow.invalid: its host name does not resolve." in run.output
    assert "Traceback" not in run.output


NOWHERE = """
[routes.external]
url = "https://mlflow.invalid"

"""
