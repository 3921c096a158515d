"""Keys under which pytest's configuration holds what tests of a target need."""

from __future__ import annotations

import pytest

from mlflow_proxy_e2e.run import Run
from mlflow_proxy_e2e.stack import Stack
from mlflow_proxy_e2e.target import Secret, Target

STACK = pytest.StashKey[Stack]()  # the run's stack: in the controller only
RUN = pytest.StashKey[Run]()  # the run itself: in the controller and in every worker
TARGET = pytest.StashKey[Target]()  # and its target: in the controller and in every worker
ISSUED = pytest.StashKey[list[Secret]]()  # and the keys that tests have had issued there
