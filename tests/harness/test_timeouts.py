"""The table of timeouts, compared with what it documents."""

from __future__ import annotations

from typing import Any

from fixtures.services import edge, envoy, proxy
from mlflow_proxy_e2e import timeouts
from mlflow_proxy_e2e.timeouts import page
from tests.harness.conftest import ROOT


def test_page_of_timeouts() -> None:
    """The documentation has the current table."""
    assert (ROOT / "docs" / "timeouts.md").read_text() == page()


def test_reference_waits_as_documented() -> None:
    """The reference proxy and edge wait for the next hop as long as the table says."""
    in_front, behind = (envoy.parse(source.read_text()) for source in (edge.SOURCE, proxy.SOURCE))

    assert _silence(in_front) == f"{timeouts.PROXY_SILENCE:g}s"
    assert _silence(behind) == f"{timeouts.MLFLOW_SILENCE:g}s"
    assert _auth_call(behind)["timeout"] == f"{timeouts.AUTH_SILENCE:g}s"


def _silence(configuration: dict[str, Any]) -> str:
    return str(envoy.connection_manager(configuration)["stream_idle_timeout"])


def _auth_call(configuration: dict[str, Any]) -> dict[str, Any]:
    gate = envoy.connection_manager(configuration)["http_filters"][0]["typed_config"]
    uri: dict[str, Any] = gate["http_service"]["server_uri"]
    return uri
