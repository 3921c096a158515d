"""Gateways that others might write in place of our proxy, as local processes between our edge and a running MLflow.

Each follows the contract in its product's own way, with as little configuration as that takes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from fixtures.faults.snippets import Snippets
from fixtures.services import Address, Service
from fixtures.services.edge.certificates import Authority
from fixtures.stack.process import PROGRAMS, ProcessStack
from mlflow_proxy_e2e.target import Contract, Secret, Target
from tests.harness.faults.front import Front

SNIPPETS = Snippets(__file__)
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"  # where Debian has servers


@dataclass(frozen=True)
class Gateway:
    """A proxy of another product.

    Args:
        program, arguments: the command that runs it, in a folder that has its files.
        files: its configuration. ``${port}``, ``${mlflow}`` and ``${auth}`` are filled in.
        contract: how it refuses.
    """

    program: str
    arguments: tuple[str, ...]
    files: tuple[str, ...]
    contract: Contract = field(default_factory=Contract)

    @property
    def is_installed(self) -> bool:
        """Tell whether this machine has the program."""
        return self._found is not None

    @property
    def _found(self) -> str | None:
        return PROGRAMS.get(self.program, lambda: shutil.which(self.program, path=PATH))()

    def service(self, proxy: Service, *, mlflow: Address, auth: Address) -> Service:
        """Return the service to run in place of ``proxy``."""
        places = {"port": proxy.address.port, "mlflow": mlflow, "auth": auth}
        arguments = (argument.replace("${port}", str(proxy.address.port)) for argument in self.arguments)
        files = {name: SNIPPETS.text(name, **places) for name in self.files}
        return replace(proxy, command=(self._found or self.program, *arguments), files=files)


GATEWAYS: Mapping[str, Gateway] = {
    # Refusals are nginx's own pages in HTML.
    "nginx": Gateway("nginx", ("-p", ".", "-c", "nginx.conf"), ("nginx.conf",), Contract(errors="any")),
    "haproxy": Gateway("haproxy", ("-db", "-f", "haproxy.cfg"), ("haproxy.cfg", "authorize.lua")),
    # Refusals are in the framework's usual format.
    "starlette": Gateway(
        "python",
        ("-m", "uvicorn", "gateway:app", "--app-dir", ".", "--port", "${port}", "--no-server-header", "--no-date-header"),
        ("gateway.py",),
        Contract(errors="any"),
    ),
}


class BehindGateway(Front):
    """Our edge and auth service with a gateway as the proxy, in front of the MLflow of another stack."""

    def __init__(self, behind: ProcessStack, gateway: Gateway) -> None:
        super().__init__(behind)
        self._gateway = gateway

    def define(self, authority: Authority, admin_token: Secret) -> Iterable[Service]:
        """Define the services, with the gateway as the proxy."""
        services = {service.name: service for service in super().define(authority, admin_token)}
        places = {name: services[name].address for name in ("mlflow", "auth")}
        return ({**services, "proxy": self._gateway.service(services["proxy"], **places)}).values()

    def as_deployed(self) -> Target:
        """Return the target as the gateway's own profile would describe it, with a direct route."""
        assert self.target
        return replace(self.target, contract=self._gateway.contract, hops=(), keys=None)
