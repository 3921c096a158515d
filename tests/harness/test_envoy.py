"""The configurations of the edge and the proxy: complete as they are, and run with nothing but other addresses."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from fixtures.services import Address, Service, envoy
from fixtures.services import edge as edge_room
from fixtures.services import proxy as proxy_room
from fixtures.services.edge import certificate_files, edge
from fixtures.services.edge.certificates import Authority
from fixtures.services.proxy import proxy
from mlflow_proxy_e2e.errors import EnvoyMissingError

SECONDS = 30.0  # for Envoy to check a configuration
LISTEN = Address("127.0.0.1", 18001)
PROXY, MLFLOW, AUTH = Address("127.0.0.2", 18002), Address("127.0.0.3", 18003), Address("auth.test", 18004)
CLUSTERS = {
    edge_room.SOURCE: {"proxy": PROXY},
    proxy_room.SOURCE: {"mlflow": MLFLOW, "auth": AUTH},
}

Place = tuple[str | int, ...]  # the keys and indices that lead to a value


class Verdict(NamedTuple):
    """Envoy's opinion of a configuration."""

    exit_code: int
    output: str


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca.pem")


def validated(folder: Path, files: Mapping[str, str], command: tuple[str, ...]) -> Verdict:
    """Make Envoy check its configuration, next to the other files that it names, without starting anything."""
    for name, content in files.items():
        (folder / name).write_text(content)
    done = subprocess.run(
        [envoy.binary(), *command[1:], "--mode", "validate"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return Verdict(done.returncode, done.stdout + done.stderr)


def values(node: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Return every scalar in a configuration, with its place."""
    children: Any = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else None
    if not children:  # a scalar, or an empty collection
        yield place, node
    for key, child in children or ():
        yield from values(child, (*place, key))


@pytest.mark.parametrize("source", CLUSTERS, ids=lambda source: source.parent.name)
def test_a_configuration_is_complete_as_it_stands(source: Path, authority: Authority, tmp_path: Path) -> None:
    """Envoy accepts the file in the repository, next to a certificate: users start from it."""
    files = {envoy.CONFIGURATION: source.read_text(), **certificate_files(authority.issue("localhost"))}

    verdict = validated(tmp_path, files, ("envoy", "-c", envoy.CONFIGURATION))

    assert verdict.exit_code == 0, verdict.output
    assert "OK" in verdict.output


def test_what_is_run_is_complete(authority: Authority, tmp_path: Path) -> None:
    """Envoy accepts the services as a stack defines them: with their configuration for other addresses, files and options."""
    services = [
        edge(LISTEN, proxy=PROXY, prefix="/mlflow", authority=authority, names=("127.0.0.1", "localhost")),
        proxy(LISTEN, mlflow=MLFLOW, auth=AUTH),
    ]

    verdicts = {service.name: validated(folder_of(service, tmp_path), service.files, service.command) for service in services}

    assert {name: verdict.exit_code for name, verdict in verdicts.items()} == {"edge": 0, "proxy": 0}, verdicts


def test_envoy_says_what_is_wrong(tmp_path: Path) -> None:
    """A configuration with an error is not accepted: otherwise, the checks above would be worth nothing."""
    broken = proxy_room.SOURCE.read_text().replace("prefix_rewrite:", "prefix_rewritten:")

    verdict = validated(tmp_path, {envoy.CONFIGURATION: broken}, envoy.command())

    assert verdict.exit_code != 0
    assert "prefix_rewritten" in verdict.output


@pytest.mark.parametrize("source", CLUSTERS, ids=lambda source: source.parent.name)
def test_only_addresses_change(source: Path) -> None:
    """With other addresses, nothing changes but the listener's address, the clusters' addresses, and the ``Host`` made of them."""
    before = dict(values(yaml.safe_load(source.read_text())))
    clusters = CLUSTERS[source]

    after = dict(values(envoy.configure(source, LISTEN, clusters)))

    changed = {place: value for place, value in after.items() if before.get(place) != value}
    assert before.keys() == after.keys()
    assert changed == expected_changes(before, clusters)


def expected_changes(configuration: Mapping[Place, Any], clusters: Mapping[str, Address]) -> dict[Place, Any]:
    """Return which values of a configuration are addresses, and what they must become."""
    changes = at(("static_resources", "listeners", 0), LISTEN)
    for place, value in configuration.items():
        *holder, key = place
        if key == "host_rewrite_literal":
            cluster = (*holder, "cluster")
            changes[place] = str(clusters[configuration[cluster]])
        if key == "name" and len(place) == 4 and place[1] == "clusters":
            changes |= at((*holder, "load_assignment", "endpoints", 0, "lb_endpoints", 0, "endpoint"), clusters[value])
    return changes


def at(holder: Place, address: Address) -> dict[Place, Any]:
    """Return the places of an address's parts."""
    parts = {"address": address.host, "port_value": address.port}
    return {(*holder, "address", "socket_address", part): value for part, value in parts.items()}


def test_the_host_that_mlflow_sees_is_its_own_address() -> None:
    """MLflow refuses an unknown ``Host``, so the proxy sends the address that it calls, on each of its routes."""
    configured = dict(values(envoy.configure(proxy_room.SOURCE, LISTEN, CLUSTERS[proxy_room.SOURCE])))

    ways = [place[:-1] for place, value in configured.items() if place[-1] == "cluster" and value == "mlflow"]
    assert ways
    assert {configured.get((*way, "host_rewrite_literal")) for way in ways} == {"127.0.0.3:18003"}


def test_the_source_is_not_changed() -> None:
    """Two stacks in one process each get their own configuration."""
    first = envoy.configure(proxy_room.SOURCE, LISTEN, CLUSTERS[proxy_room.SOURCE])
    envoy.connection_manager(first)["stat_prefix"] = "changed"
    envoy.routes(first).clear()

    second = envoy.configure(proxy_room.SOURCE, LISTEN, CLUSTERS[proxy_room.SOURCE])

    assert envoy.connection_manager(second)["stat_prefix"] == "proxy"
    assert envoy.routes(second)


@pytest.mark.parametrize("source", CLUSTERS, ids=lambda source: source.parent.name)
def test_a_configuration_survives_being_written(source: Path) -> None:
    """The written configuration is the one that was made."""
    configuration = envoy.configure(source, LISTEN, CLUSTERS[source])

    assert yaml.safe_load(envoy.dump(configuration)) == configuration


def test_an_envoy_in_the_path_will_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """If the package has no Envoy, an installed one is used; if there is none, the error says what to do."""
    monkeypatch.setattr(envoy, "_packaged", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvoyMissingError, match="Install Envoy"):
        envoy.binary()

    installed = tmp_path / "envoy"
    installed.touch(0o755)

    assert envoy.binary() == str(installed)


def folder_of(service: Service, parent: Path) -> Path:
    """Make a folder for a service."""
    folder = parent / service.name
    folder.mkdir()
    return folder
