"""The file that describes a user's own proxy: what it says takes effect, and its errors are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.services import Address
from fixtures.services.proxy.image import load
from mlflow_proxy_e2e.errors import BadFileError

GOOD = """
port = 8080
prefix = "/ml"
health = "/healthz"
without = ["rate-limit"]
[environment]
mlflow_url = "UPSTREAM"
auth_url = "AUTH"
[expect]
forbidden = 404
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "proxy.toml"


def test_what_it_says_is_taken_over(file: Path) -> None:
    """Where it listens, how it gets the other services' addresses, and what it promises."""
    file.write_text(GOOD)

    proxy = load("gateway:1", file)
    service = proxy.service(mlflow=Address("mlflow.internal", 5000), auth=Address("auth.internal", 8002))

    assert str(service.address) == "proxy.internal:8080"
    assert service.image == "gateway:1"
    assert service.environment == {"UPSTREAM": "http://mlflow.internal:5000", "AUTH": "http://auth.internal:8002"}
    assert service.ready
    assert service.ready.path.startswith("/ml/api/2.0/mlflow/")
    assert service.ready.health == "/healthz"
    assert (proxy.contract.forbidden, proxy.contract.unauthenticated) == (404, 401)
    assert "rate-limit" not in proxy.capabilities
    assert "scopes" in proxy.capabilities


@pytest.mark.parametrize(
    ("there", "instead", "message"),
    [
        ("port = 8080", "", "port is missing: it should be an integer."),
        ("port = 8080", "port = '8080'", "port should be an integer."),
        ("port = 8080", "port = 80800", "port should be a number from 1 to 65535."),
        ('prefix = "/ml"', 'prefix = "ml/"', "prefix should be a path such as /mlflow."),
        ("health =", "heatlh =", "heatlh is unknown: valid are environment, expect, health, port, prefix, without."),
        ('auth_url = "AUTH"', "", "environment.auth_url is missing: it should be a string in quotes."),
        ("forbidden = 404", "forbidden = true", "expect.forbidden should be an integer."),
        ("forbidden = 404", "denied = 404", "expect.denied is unknown: valid are "),
        ('["rate-limit"]', '["speed"]', "without has unknown values, at position 1: valid are scopes,"),
        ("port = 8080", "port =", "is not TOML: "),
    ],
)
def test_what_is_wrong_is_named(file: Path, there: str, instead: str, message: str) -> None:
    """The file, the field, and what should be there."""
    assert there in GOOD
    file.write_text(GOOD.replace(there, instead))

    with pytest.raises(BadFileError) as raised:
        load("gateway:1", file)

    assert str(raised.value).startswith(str(file))
    assert message in str(raised.value)


def test_a_file_that_is_not_there(file: Path) -> None:
    """A path that does not exist."""
    with pytest.raises(BadFileError, match=r"proxy\.toml: No such file or directory\. --proxy-config needs"):
        load("gateway:1", file)
