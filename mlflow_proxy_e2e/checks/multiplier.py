"""The smallest possible model: MLflow loads it by this module's name, with nothing to install or import."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mlflow.models import Model
from mlflow.pyfunc import FLAVOR_NAME

FACTOR = 3


class Multiplier:
    """Multiplies by the number in its file."""

    def __init__(self, factor: int) -> None:
        self._factor = factor

    def predict(self, numbers: Iterable[int]) -> list[int]:
        """Return each number times the factor."""
        return [number * self._factor for number in numbers]


def save(folder: Path) -> None:
    """Write the model's files."""
    (folder / "factor").write_text(f"{FACTOR}")
    Model().add_flavor(FLAVOR_NAME, loader_module=__name__, data="factor").save(folder / "MLmodel")


def _load_pyfunc(file: str) -> Multiplier:
    return Multiplier(int(Path(file).read_text()))
