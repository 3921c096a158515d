"""The target as data: what it may show, how it is passed on, and who is allowed what."""

from __future__ import annotations

import copy
import json
import logging
import traceback
from collections.abc import Callable

import pytest

from mlflow_proxy_e2e.target import Contract, Denial, Identity, Route, Secret, Target

VALUE = "hk_test_" + "k" * 32
SECRET = Secret(VALUE)

READER = Identity("reader", frozenset({"read"}), key=SECRET)
WRITER = Identity("writer", frozenset({"read", "write"}), key=Secret("of the writer"))
UPLOADER = Identity("uploader", frozenset({"write"}), key=Secret("of the uploader"))
REVOKED = Identity("revoked", frozenset({"read", "write"}), "unauthenticated", Secret("of the revoked"))
OTHER_SERVICE = Identity("other-service", refused="forbidden", key=Secret("of the other service"))
THROTTLED = Identity("throttled", frozenset({"read"}), "throttled", Secret(""))
ANONYMOUS = Identity("anonymous", refused="unauthenticated")

TARGET = Target(
    name="made up",
    routes=(Route("internal", "http://proxy.internal:8001/mlflow"), Route("external", "https://example.com/api/mlflow", "ca.pem")),
    identities=(WRITER, REVOKED, READER, UPLOADER, OTHER_SERVICE, THROTTLED, ANONYMOUS),
    capabilities=frozenset({"scopes", "registry"}),
    carriers=("x-api-key",),
    direct=Route("direct", "http://mlflow.internal:5000"),
    contract=Contract(forbidden=404),
)


SHOWN: dict[str, Callable[[Secret], str]] = {
    "repr": repr,
    "str": str,
    "format": "{}".format,
    "f-string": lambda secret: f"{secret} {secret!r}",
    "percent": lambda secret: "%s %r" % (secret, secret),  # noqa: UP031 - one of the ways in which a string gets out
    "containers": lambda secret: str([secret, {"key": secret}]),
    "identity": lambda secret: repr(Identity("reader", key=secret)),
    "target": lambda secret: repr(Target("t", (), (Identity("reader", key=secret),), frozenset())),
    "copy": lambda secret: repr(copy.deepcopy(secret)),
}


@pytest.mark.parametrize("way", sorted(SHOWN))
def test_a_secret_does_not_show_itself(way: str) -> None:
    """No way in which Python turns an object into a string shows a secret, alone or within another object."""
    assert VALUE not in SHOWN[way](SECRET)


def test_a_secret_shows_itself_when_asked_to() -> None:
    """There is one method that returns the string, and its name says so."""
    assert SECRET.reveal() == VALUE


def test_a_traceback_does_not_show_a_secret() -> None:
    """The variables in a traceback, as ``--showlocals`` and error trackers print them, do not show the secrets among them."""

    def fail(key: Secret, identity: Identity, target: Target) -> None:
        raise RuntimeError(f"{key} {identity} {target}")

    with pytest.raises(RuntimeError) as raised:
        fail(SECRET, READER, TARGET)

    shown = "".join(traceback.TracebackException.from_exception(raised.value, capture_locals=True).format())
    assert "key = Secret(***)" in shown
    assert VALUE not in shown


def test_a_log_does_not_show_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    """What is logged with a secret in its arguments does not show it."""
    logging.getLogger(__name__).warning("called with %s as %r", SECRET, READER)

    assert caplog.messages == ["called with Secret(***) as " + repr(READER)]
    assert VALUE not in caplog.text


def test_a_failed_comparison_does_not_show_a_secret() -> None:
    """pytest explains a failed assertion with the values on both sides."""
    with pytest.raises(AssertionError) as failed:
        assert Secret("another") == SECRET

    assert VALUE not in str(failed.value)


def test_a_secret_is_not_written_by_accident() -> None:
    """A secret cannot be written as JSON: only ``to_data`` reveals it, and says so."""
    with pytest.raises(TypeError):
        json.dumps({"key": SECRET})


def test_secrets_are_equal_by_value() -> None:
    """Two secrets with one value are equal and interchangeable as keys; the plain string is not equal to them."""
    assert Secret(VALUE) == SECRET
    assert {SECRET: 1}[Secret(VALUE)] == 1
    assert Secret("another") != SECRET
    assert SECRET != VALUE


@pytest.mark.parametrize("target", [TARGET, Target("least", (), (), frozenset())], ids=["all fields", "defaults"])
def test_a_target_travels_as_json(target: Target) -> None:
    """A target survives the trip to another process as JSON: keys and types included."""
    arrived = Target.from_data(json.loads(json.dumps(target.to_data())))

    assert arrived == target
    assert [i.key for i in arrived.identities] == [i.key for i in target.identities]
    assert hash(arrived.routes) == hash(target.routes)  # as test ids and dictionary keys they must be the same, too


def test_who_may_do_what() -> None:
    """Allowed identities are those with the scope that are not refused altogether; no others are allowed."""
    assert set(TARGET.who_may("read")) == {READER, WRITER}
    assert set(TARGET.who_may("write")) == {UPLOADER, WRITER}
    assert set(TARGET.who_may_not("read")) == {ANONYMOUS, OTHER_SERVICE, REVOKED, THROTTLED, UPLOADER}
    assert set(TARGET.who_may_not("write")) == {ANONYMOUS, OTHER_SERVICE, READER, REVOKED, THROTTLED}


@pytest.mark.parametrize(
    ("identity", "denial"),
    [
        (ANONYMOUS, Denial(401, "UNAUTHENTICATED", "WWW-Authenticate")),
        (REVOKED, Denial(401, "UNAUTHENTICATED", "WWW-Authenticate")),
        (OTHER_SERVICE, Denial(403, "PERMISSION_DENIED", None)),
        (READER, Denial(403, "PERMISSION_DENIED", None)),
        (THROTTLED, Denial(429, "REQUEST_LIMIT_EXCEEDED", "Retry-After")),
    ],
    ids=str,
)
def test_how_somebody_is_refused(identity: Identity, denial: Denial) -> None:
    """By default, a target refuses like the reference proxy: a missing scope like a key for another service."""
    assert Contract().denial(identity) == denial


def test_a_target_may_refuse_with_other_statuses() -> None:
    """A deployment's own statuses replace the reference proxy's; the error codes stay."""
    contract = Contract(unauthenticated=403, forbidden=404, throttled=503)

    assert contract.denial(REVOKED) == Denial(403, "UNAUTHENTICATED", "WWW-Authenticate")
    assert contract.denial(READER) == Denial(404, "PERMISSION_DENIED", None)
    assert contract.denial(THROTTLED) == Denial(503, "REQUEST_LIMIT_EXCEEDED", "Retry-After")


def test_routes_and_identities_are_found_by_name() -> None:
    """A known name leads to its route or identity, and an unknown one is an error."""
    assert TARGET.route("external").ca == "ca.pem"
    assert TARGET.identity("reader") is READER
    with pytest.raises(KeyError):
        TARGET.route("direct")
    with pytest.raises(KeyError):
        TARGET.identity("nobody")
