"""What others have made, and is right: tests stay green, and no diagnosis finds anything."""

from __future__ import annotations

import pytest

from fixtures.services.proxy.image import load
from fixtures.stack import engine
from fixtures.stack.choices import Choices
from fixtures.stack.container import ContainerStack
from fixtures.stack.owned import OwnedStack
from fixtures.stack.process import ProcessStack
from fixtures.stack.reaper import ROOT
from tests.harness.faults.conftest import AssertRight

EXAMPLES = ROOT / "examples" / "proxies"


@pytest.mark.nightly
@pytest.mark.parametrize("version", ["3.4.0", "3.0.1", "2.22.5"])
def test_mlflow_of_another_version(version: str, assert_right: AssertRight) -> None:
    """What an older MLflow does otherwise, or lacks, is no fault."""
    _assert_stack_right(ProcessStack(mlflow_version=version), assert_right)


@pytest.mark.docker
@pytest.mark.parametrize("product", ["caddy", "nginx"])
def test_proxy_of_another_product(product: str, assert_right: AssertRight) -> None:
    """The examples keep the contract, each in the way of its product."""
    image = f"mlflow-proxy-e2e-test:{product}"
    with engine.connected() as client:
        client.images.build(path=str(EXAMPLES / product), tag=image, rm=True)

    proxy = load(image, EXAMPLES / product / "proxy.toml")
    _assert_stack_right(ContainerStack(choices=Choices(proxy=proxy)), assert_right)


def _assert_stack_right(stack: OwnedStack, assert_right: AssertRight) -> None:
    try:
        target = stack.start()
        list(stack.until_ready())
        assert_right(target)
    finally:
        stack.stop()
