"""Faults that are not in the catalogue: the diagnosis says where they are, and does not guess what they are."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import pytest

from fixtures.faults.auth.decisions import classify
from fixtures.faults.fault import Fault
from fixtures.faults.suite import E2E, READ
from fixtures.faults.system import Configuration, System, script
from fixtures.services import envoy
from fixtures.stack.process import ProcessStack
from fixtures.stack.reaper import ROOT
from mlflow_proxy_e2e.causes.cause import CauseId
from mlflow_proxy_e2e.endpoints.scopes import TABLE
from tests.harness.faults.conftest import RunOn, StartFront

TEAPOT_FOR_PARAMETERS = """
function envoy_on_request(handle)
  if string.find(handle:headers():get(":path"), "log%-parameter") then handle:respond({[":status"] = "418"}, "") end
end
"""
UPPER_CASE_NAMES = """
function envoy_on_response(handle)
  local body = handle:body(true)
  body:setBytes((string.gsub(body:getBytes(0, body:length()), '"run_id"', '"RUN_ID"')))
end
"""


# An MLflow with a made-up error, in place of one that will be discovered some day.
FAILS_AT_PARAMETERS = """
import importlib.abc, sys

class Breaker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "mlflow.server.fastapi_app":
            from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
            SqlAlchemyStore.log_param = lambda *_: 1 / 0
        return None

sys.meta_path.insert(0, Breaker())
"""


class Unknown(NamedTuple):
    """What is wrong, where, and the tests that fail."""

    inject: Callable[[System], None]
    hop: str
    tests: tuple[str, ...]


def _refuse_at_edge(system: System) -> None:
    def edit(configuration: Configuration) -> None:
        runs = {"prefix": "/api/mlflow/api/2.0/mlflow/runs/"}
        envoy.routes(configuration).insert(0, {"match": runs, "direct_response": {"status": 451}})

    system.reconfigure("edge", edit)


def _forget_in_table(system: System) -> None:
    classify(system, "".join(line for line in TABLE.read_text().splitlines(keepends=True) if "/mlflow/runs/" not in line))


def _break_mlflow(system: System) -> None:
    service = system.services["mlflow"]
    system.add_files("mlflow", **{"sitecustomize.py": FAILS_AT_PARAMETERS})
    system.change("mlflow", environment={**service.environment, "PYTHONPATH": f".{os.pathsep}{ROOT}"})


RUNS = (f"{E2E}/test_runs.py",)
UNKNOWN: Mapping[str, Unknown] = {
    "edge-refuses-runs": Unknown(_refuse_at_edge, "edge", RUNS),
    "proxy-is-a-teapot": Unknown(script(TEAPOT_FOR_PARAMETERS), "proxy", RUNS),
    "proxy-shouts": Unknown(script(UPPER_CASE_NAMES), "proxy", RUNS),
    "auth-forgets-runs": Unknown(_forget_in_table, "auth", RUNS),
}


@pytest.mark.parametrize("name", sorted(UNKNOWN))
def test_unknown_fault(name: str, start_front: StartFront, run_on: RunOn) -> None:
    """The verdict says at which hop something is wrong, with evidence, and names no cause."""
    inject, hop, tests = UNKNOWN[name]

    front = start_front(Fault(cause=CauseId(name), inject=inject))
    assert front.target

    run = run_on(front.target, *tests, *READ)

    assert run.wait() == pytest.ExitCode.TESTS_FAILED, run.output
    (finding,) = run.verdict["findings"]
    assert (finding["hops"], finding["causes"]) == ([hop], []), run.output
    unexplained = [test for group in run.verdict["unexplained"] for test in group["tests"]]
    assert len(unexplained) == sum(outcome != "passed" for outcome in run.outcomes().values()), run.output
    assert re.search(rf"\n +{hop}: ", run.output), "the verdict has the way of what has failed through the hops' logs"


def test_unknown_fault_of_mlflow(run_on: RunOn) -> None:
    """The verdict says that MLflow itself fails."""
    stack = ProcessStack(fault=Fault(cause=CauseId("not-in-the-catalogue"), inject=_break_mlflow))
    try:
        target = stack.start()
        list(stack.until_ready())

        run = run_on(target, *RUNS)

        assert run.wait() == pytest.ExitCode.TESTS_FAILED, run.output
        (finding,) = run.verdict["findings"]
        assert (finding["hops"], finding["causes"]) == (["mlflow"], []), run.output
    finally:
        stack.stop()
