"""The Compose file has the container stack's services as they are defined."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import yaml

from fixtures.services import Service
from fixtures.stack import compose
from fixtures.stack.container import ContainerStack


class Composed(ContainerStack):
    """A stack whose images have names, but are neither built nor looked for."""

    def image_of(self, service: Service) -> str:
        return f"image-of-{service.name}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    compose.write(Composed(), tmp_path)
    return tmp_path


def test_services_are_found_by_their_names(folder: Path) -> None:
    """Each has its image, its name on the network, and a port on loopback alone."""
    services = yaml.safe_load((folder / compose.FILE).read_text())["services"]

    assert {name: service["image"] for name, service in services.items()} == {name: f"image-of-{name}" for name in services}
    assert {name: service["networks"]["default"]["aliases"] for name, service in services.items()} == {
        name: [f"{name}.internal"] for name in ("mlflow", "auth", "proxy", "edge")
    }
    assert all(port.startswith("127.0.0.1:") for service in services.values() for port in service["ports"])


def test_what_is_mounted_is_there_for_the_services_alone(folder: Path) -> None:
    """Every mounted file exists; the services can read it, and on this machine only the user can."""
    services = yaml.safe_load((folder / compose.FILE).read_text())["services"]
    mounted = [folder / volume.partition(":")[0] for service in services.values() for volume in service["volumes"]]

    assert {path.name for path in mounted} >= {"envoy.yaml", "admin-token", "edge-key.pem"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in mounted} == {0o644}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
