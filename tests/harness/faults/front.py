"""Stacks that share one MLflow, which takes longer to start than everything else and is not concerned by most faults."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from fixtures.faults.catalogue import FAULTS
from fixtures.faults.fault import Fault
from fixtures.services import Address, Service
from fixtures.stack.process import LOG, ProcessStack, ServiceProcess

SHARED = "mlflow"
# The faults for which MLflow need not be started again.
WITH_A_SHARED_MLFLOW = tuple(fault.id for fault in FAULTS.values() if fault.hop != "mlflow")


class Front(ProcessStack):
    """Edge, proxy and auth service in front of the MLflow of another stack.

    Args:
        behind: the stack whose MLflow it uses. It must run for as long as this one does.
        fault: what to break in front of it.
    """

    def __init__(self, behind: ProcessStack, fault: Fault | None = None) -> None:
        super().__init__(fault=fault)
        shared = behind.running[SHARED]
        assert isinstance(shared, ServiceProcess)
        self._shared = shared

    def addresses(self) -> Mapping[str, Address]:
        """Return new addresses, and that of the other stack's MLflow."""
        return {**super().addresses(), SHARED: self._shared.reach}

    def run(self, services: Iterable[Service]) -> Iterator[ServiceProcess]:
        """Start all services but MLflow."""
        yield self._shared
        yield from super().run(service for service in services if service.name != SHARED)

    def where_log_is(self, service: Service) -> str:
        """Return the file that a service writes its log to."""
        return f"file:{self._shared.home / LOG}" if service.name == SHARED else super().where_log_is(service)

    def stop(self) -> None:
        """Stop all services but MLflow."""
        self.running = {name: running for name, running in self.running.items() if name != SHARED}
        super().stop()
