"""The type of a family: neighbouring causes, in one module."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Literal, get_args

from mlflow_proxy_e2e.causes.cause import Cause
from mlflow_proxy_e2e.facts.sign import Sign

Stage = Literal["client", "reach", "gate", "holes", "forwarding"]  # in the order in which ``check`` prints them
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True)
class Family:
    """Causes that break the same promise, and that must be told apart.

    Args:
        stage: the heading under which ``check`` prints the promise.
        promise: what holds where none of these causes shows.
        module: has them as ``CAUSES``, and as ``UNNAMED`` signs of problems that none of them names.
    """

    stage: Stage
    promise: str
    module: ModuleType

    @property
    def name(self) -> str:
        """Return the hop and the name of the module, such as ``proxy/paths``."""
        return "/".join(self.module.__name__.split(".")[-2:])

    @property
    def causes(self) -> tuple[Cause, ...]:
        """Return its causes."""
        return tuple(self.module.CAUSES)

    @property
    def unnamed(self) -> tuple[tuple[str, Sign], ...]:
        """Return the signs of problems without a name, each with a description of the problem."""
        return tuple(getattr(self.module, "UNNAMED", ()))
