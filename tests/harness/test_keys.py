"""API keys at rest: what is stored, and when they are valid."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fixtures.services.auth import keys
from fixtures.services.auth.keys import HOUR, InvalidKeyError, Key, KeyStore, RateLimitedError

NOW = 1_800_000_000.0


class Clock:
    """Stands in for the module ``time`` in the store."""

    def __init__(self) -> None:
        self.now = NOW

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stopped = Clock()
    monkeypatch.setattr(keys, "time", stopped)
    return stopped


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.sqlite"


@pytest.fixture
def store(file: Path) -> Iterator[KeyStore]:
    opened = KeyStore(file)
    yield opened
    opened.close()


def create(store: KeyStore, **wanted: Any) -> tuple[Key, str]:
    """Create a key, with defaults for whatever is not given."""
    ordinary = {"user_id": "ada", "service_id": "mlflow", "scopes": ("read",), "expires_at": None, "rate_limit_per_hour": None}
    return store.create(**{**ordinary, **wanted})


def test_a_key_is_what_it_was_created_as(store: KeyStore) -> None:
    """The secret leads to the key, with all its requested properties."""
    created, secret = create(store, scopes=("read", "write"), expires_at=NOW * 2, rate_limit_per_hour=7)

    assert store.authenticate(secret) == created
    assert created == Key(created.key_id, "ada", "mlflow", ("read", "write"), NOW * 2, 7)


def test_each_key_is_another(store: KeyStore) -> None:
    """Keys with the same properties have nothing in common but their format: ``hk_test_`` and 32 letters or digits."""
    created = [create(store) for _ in range(20)]

    assert len({secret for _, secret in created}) == len({key.key_id for key, _ in created}) == 20
    assert all(re.fullmatch(r"hk_test_[A-Za-z0-9]{32}", secret) for _, secret in created)
    assert not any(key.key_id in secret or secret in repr(key) for key, secret in created)


def test_no_secret_is_kept(store: KeyStore, file: Path) -> None:
    """Neither the database nor the files beside it hold a secret or its random part, before and after it was used."""
    _, secret = create(store)
    store.authenticate(secret)

    in_use = b"".join(path.read_bytes() for path in file.parent.iterdir())
    store.close()
    kept = in_use + b"".join(path.read_bytes() for path in file.parent.iterdir())

    assert hashlib.sha256(secret.encode()).hexdigest().encode() in kept  # so this is where it would be
    assert secret.removeprefix(keys.PREFIX).encode() not in kept


@pytest.mark.parametrize(
    "secret", ["", "x", "hk_test_", "not-a-key", "hk_test_" + "a" * 32, "hk_test_" + "a" * 100_000, "ü\udcff\0", "' OR 1=1 --"]
)
def test_an_unknown_or_malformed_key_is_invalid(store: KeyStore, secret: str) -> None:
    """Anything that is not a key of the store is invalid, whatever it looks like."""
    create(store)

    with pytest.raises(InvalidKeyError):
        store.authenticate(secret)


def test_a_key_is_compared_as_a_whole(store: KeyStore) -> None:
    """A part of a secret, a longer one, another case of it, or its stored hash is not the secret."""
    key, secret = create(store)

    for wrong in (
        secret[:-1],
        secret + "a",
        f" {secret}",
        secret.swapcase(),
        hashlib.sha256(secret.encode()).hexdigest(),
        key.key_id,
    ):
        with pytest.raises(InvalidKeyError):
            store.authenticate(wrong)


def test_a_key_expires(store: KeyStore, clock: Clock) -> None:
    """A key is good until the second in which it expires, and no longer."""
    key, secret = create(store, expires_at=NOW + 10)

    clock.now = NOW + 9.9
    assert store.authenticate(secret) == key
    clock.now = NOW + 10
    with pytest.raises(InvalidKeyError):
        store.authenticate(secret)


def test_a_revoked_key_is_invalid_at_once_and_for_good(store: KeyStore) -> None:
    """A revoked key is invalid; it is still listed, and other keys are unchanged."""
    key, secret = create(store)
    other, other_secret = create(store)
    assert store.authenticate(secret) == key

    assert store.revoke(key.key_id) is True

    with pytest.raises(InvalidKeyError):
        store.authenticate(secret)
    assert {listed.key_id: listed.revoked for listed in store.all()} == {key.key_id: True, other.key_id: False}
    assert store.authenticate(other_secret) == other


def test_revoking_is_of_one_key_by_its_id(store: KeyStore) -> None:
    """Revoking twice is not an error; anything but the id of a key revokes nothing, the secret and patterns included."""
    key, secret = create(store)

    assert [store.revoke(name) for name in (secret, "%", "", "key_0")] == [False] * 4
    assert store.authenticate(secret) == key
    assert [store.revoke(key.key_id) for _ in range(2)] == [True, True]


def test_a_key_without_a_limit_is_never_limited(store: KeyStore) -> None:
    """A key without a limit can be used any number of times."""
    key, _ = create(store, rate_limit_per_hour=None)

    assert all(passes(store, key) for _ in range(50))


def test_a_key_is_limited(store: KeyStore, clock: Clock) -> None:
    """A key over its hourly limit learns when new calls are available, and then has all of them again."""
    key, _ = create(store, rate_limit_per_hour=3)
    for second in range(3):
        clock.now = NOW + second
        store.spend(key)

    assert retry_after(store, key) == HOUR - 2
    clock.now = NOW + HOUR - 1
    assert retry_after(store, key) == 1

    clock.now = NOW + HOUR
    for _ in range(3):
        store.spend(key)
    assert retry_after(store, key) == HOUR


def test_to_come_again_after_retry_after_is_enough(store: KeyStore, clock: Clock) -> None:
    """A client that waits exactly as long as it was told to is let in, also at a fraction of a second."""
    key, _ = create(store, rate_limit_per_hour=1)
    store.spend(key)
    clock.now = NOW + 0.6

    clock.now += retry_after(store, key)

    assert passes(store, key)


@pytest.mark.parametrize("moments", [0.4, 0.001, HOUR - 0.1])
def test_retry_after_is_never_none(store: KeyStore, clock: Clock, moments: float) -> None:
    """A limited client is never told to retry at once."""
    key, _ = create(store, rate_limit_per_hour=1)
    store.spend(key)

    clock.now = NOW + moments

    assert retry_after(store, key) >= 1


def test_a_refused_call_does_not_make_the_wait_longer(store: KeyStore, clock: Clock) -> None:
    """A client that asks again and again while it is limited is let in when the hour is over."""
    key, _ = create(store, rate_limit_per_hour=1)
    store.spend(key)
    for minute in range(60):
        clock.now = NOW + 60 * minute
        retry_after(store, key)

    clock.now = NOW + HOUR

    assert passes(store, key)


def test_a_limit_of_none_at_all(store: KeyStore) -> None:
    """A key with a limit of 0 calls is good, but has none to spend."""
    key, secret = create(store, rate_limit_per_hour=0)

    assert store.authenticate(secret) == key
    assert retry_after(store, key) == HOUR


def test_each_key_has_its_own_limit(store: KeyStore) -> None:
    """A key that has used up its calls does not affect other keys."""
    first, _ = create(store, rate_limit_per_hour=1)
    second, _ = create(store, rate_limit_per_hour=1)

    assert [passes(store, key) for key in (first, first, second, second)] == [True, False, True, False]


def test_calls_at_the_same_time_do_not_exceed_the_limit(store: KeyStore) -> None:
    """Of concurrent calls, exactly as many pass as the key has."""
    key, _ = create(store, rate_limit_per_hour=10)
    together = threading.Barrier(8)

    def spend_five(_: int) -> int:
        together.wait()
        return sum(1 for _ in range(5) if passes(store, key))

    with ThreadPoolExecutor(8) as callers:
        assert sum(callers.map(spend_five, range(8))) == 10


def test_everything_outlives_a_restart(store: KeyStore, file: Path, clock: Clock) -> None:
    """A reopened store still knows the keys, which are revoked, and how many calls they have used."""
    good, good_secret = create(store, scopes=("read", "write"), expires_at=NOW + 10)
    revoked, revoked_secret = create(store)
    limited, _ = create(store, rate_limit_per_hour=1)
    store.revoke(revoked.key_id)
    store.spend(limited)
    before = store.all()
    store.close()

    reopened = KeyStore(file)

    try:
        assert reopened.all() == before
        assert reopened.authenticate(good_secret) == good
        with pytest.raises(InvalidKeyError):
            reopened.authenticate(revoked_secret)
        clock.now = NOW + 60
        assert retry_after(reopened, limited) == HOUR - 60
    finally:
        reopened.close()


def retry_after(store: KeyStore, key: Key) -> int:
    """Spend a call that the key does not have, and return when to retry."""
    with pytest.raises(RateLimitedError) as limited:
        store.spend(key)
    return limited.value.retry_after


def passes(store: KeyStore, key: Key) -> bool:
    """Tell whether the key has a call to spend, and spend it."""
    try:
        store.spend(key)
    except RateLimitedError:
        return False
    return True
