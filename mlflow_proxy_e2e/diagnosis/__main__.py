"""``python -m mlflow_proxy_e2e.diagnosis --target=FILE`` asks a deployed target what is wrong with it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from mlflow_proxy_e2e import profile
from mlflow_proxy_e2e.deployed import DeployedStack
from mlflow_proxy_e2e.diagnosis import diagnose
from mlflow_proxy_e2e.diagnosis.verdict import Verdict
from mlflow_proxy_e2e.errors import SuiteError
from mlflow_proxy_e2e.target import Target
from mlflow_proxy_e2e.traffic import TRAFFIC

WELL, WRONG, UNKNOWN = 0, 1, 3  # exit codes: nothing is wrong, a cause has a name, something is wrong that has none


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m mlflow_proxy_e2e.diagnosis",
        description="Ask a deployed target what is wrong with it.",
        epilog="Exit code: 0 nothing, 1 a cause that has a name, 3 one that has none.",
    )
    parser.add_argument("--target", metavar="FILE", type=Path, required=True, help="the profile of the target (TOML)")
    parser.add_argument("--json", action="store_true", help="print the verdicts as JSON")
    arguments = parser.parse_args()
    try:
        verdicts = _verdicts(profile.load(arguments.target))
    except SuiteError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return error.exit_code
    print(_as_json(verdicts) if arguments.json else _as_text(verdicts))  # noqa: T201
    if not verdicts:
        return WELL
    return WRONG if verdicts[0].causes else UNKNOWN


def _verdicts(target: Target) -> list[Verdict]:
    TRAFFIC.limit(target, 1)
    try:
        verdicts = diagnose(target)
    finally:
        for what in DeployedStack(target).clean_up():
            print(f"left behind on the target: {what}", file=sys.stderr)  # noqa: T201
    if TRAFFIC.is_exhausted:
        raise TRAFFIC.exhaustion
    return verdicts


def _as_json(verdicts: list[Verdict]) -> str:
    return json.dumps([verdict.to_data() for verdict in verdicts], indent=2)


def _as_text(verdicts: list[Verdict]) -> str:
    return "\n\n".join(map(str, verdicts)) or "Nothing is wrong, as far as questions show."


if __name__ == "__main__":
    sys.exit(main())
