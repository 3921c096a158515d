"""Correct systems made of other products: tests pass, and no diagnosis finds anything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from fixtures.faults.suite import E2E, HEADERS, TRANSFER
from fixtures.services.proxy.image import load
from fixtures.stack import engine
from fixtures.stack.choices import Choices
from fixtures.stack.container import ContainerStack
from fixtures.stack.owned import OwnedStack
from fixtures.stack.process import ProcessStack
from fixtures.stack.reaper import ROOT
from mlflow_proxy_e2e.diagnosis import diagnose
from mlflow_proxy_e2e.target import Target
from tests.harness.conftest import StartRun
from tests.harness.faults.conftest import PATIENT, AssertRight
from tests.harness.faults.gateways import GATEWAYS, BehindGateway

EXAMPLES = ROOT / "examples" / "proxies"
TARGETS = ROOT / "targets"
# What gateways do in their own way: compression, headers, origins, odd keys.
CONCERNED = (TRANSFER, HEADERS, f"{E2E}/test_bypass_keys.py", f"{E2E}/test_ui.py")
PUBLISHED = "https://mlflow.example.com/mlflow"  # replaced with the route's URL


@pytest.mark.nightly
@pytest.mark.parametrize("version", ["3.4.0", "3.0.1", "2.22.5"])
def test_mlflow_of_another_version(version: str, assert_right: AssertRight) -> None:
    """An older MLflow's differences and missing features are not faults."""
    with _up(ProcessStack(mlflow_version=version)) as target:
        assert_right(target)


@pytest.mark.nightly
@pytest.mark.parametrize("name", sorted(GATEWAYS))
def test_gateway(name: str, trunk: ProcessStack, assert_right: AssertRight) -> None:
    """A gateway that others might write keeps the contract in its own way, as its profile says, with a direct route or without."""
    assert GATEWAYS[name].is_installed, f"install {GATEWAYS[name].program}"
    stack = BehindGateway(trunk, GATEWAYS[name])
    with _up(stack):
        target = stack.as_deployed()
        assert_right(target, *CONCERNED)
        assert not diagnose(replace(target, direct=None), seconds=PATIENT).findings


@pytest.fixture(scope="module", params=["caddy", "nginx"])
def product(request: pytest.FixtureRequest) -> str:
    """Return each product that has an example."""
    return str(request.param)


@pytest.fixture(scope="module")
def behind_product(product: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Return a stack with the product as its proxy."""
    tmp_path_factory.getbasetemp()  # otherwise pytest puts it into the first stack's folder, which is removed with that stack
    image = f"mlflow-proxy-e2e-test:{product}"
    with engine.connected() as client:
        client.images.build(path=str(EXAMPLES / product), tag=image, rm=True)
    proxy = load(image, EXAMPLES / product / "proxy.toml")
    with _up(ContainerStack(choices=Choices(proxy=proxy))) as target:
        yield target


@pytest.mark.docker
def test_proxy_of_another_product(behind_product: Target, assert_right: AssertRight) -> None:
    """The examples keep the contract, each in its product's own way."""
    assert_right(behind_product)


@pytest.mark.docker
def test_published_profile_of_another_product(product: str, behind_product: Target, start_run: StartRun, tmp_path: Path) -> None:
    """The published profile is true of the product: everything that it promises works, with nothing but the profile."""
    file, said = tmp_path / f"{product}.toml", (TARGETS / f"{product}.toml").read_text()
    assert PUBLISHED in said
    url = behind_product.route("internal").url
    file.write_text(said.replace(PUBLISHED, url) + "\n[limits]\nrequests_per_second = 1000\n")
    callers = [behind_product.identity(name) for name in ("platform", "reader")]
    keys = {caller.variable: caller.key.reveal() for caller in callers if caller.key}

    run = start_run("-m", "smoke", f"--target={file}", XDG_STATE_HOME=str(tmp_path / "state"), **keys)

    assert run.wait() == pytest.ExitCode.OK, run.output
    assert set(run.outcomes().values()) == {"passed"}


@contextmanager
def _up(stack: OwnedStack) -> Iterator[Target]:
    try:
        target = stack.start()
        list(stack.until_ready())
        yield target
    finally:
        stack.stop()
