"""The profile of a stack that is up: what a person would write who knows its URLs and has its keys, and nothing else of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from mlflow_proxy_e2e.target import PERMISSIONS, Identity, Target

LIMITS: Mapping[str, int] = {"requests_per_second": 1000}


def write_profile(target: Target, file: Path, *, limits: Mapping[str, int] = LIMITS, only: str | None = None) -> Mapping[str, str]:
    """Write the profile, and return the environment variables that it names.

    Args:
        limits: what [limits] says.
        only: the single identity to put in (default: all that have a key).
    """
    keyed = [identity for identity in target.identities if identity.key and only in (None, identity.name)]
    promised = target.capabilities - {*PERMISSIONS, "key-lifetime"}
    lines = [
        f"name = {json.dumps(file.stem)}",
        f"carriers = {json.dumps(target.carriers)}",
        f"capabilities = {json.dumps(sorted(promised))}",
    ]
    for route in target.routes:
        lines += [
            f"[routes.{route.name}]",
            f"url = {json.dumps(route.url)}",
            *([f"ca = {json.dumps(route.ca)}"] if route.ca else []),
        ]
    for identity in keyed:
        lines += [f"[identities.{identity.name}]", f'key = "env:{identity.variable}"', _expectation(identity)]
    lines += ["[limits]", *(f"{name} = {json.dumps(value)}" for name, value in limits.items())]
    file.write_text("\n".join(lines) + "\n")
    return {identity.variable: identity.key.reveal() for identity in keyed if identity.key}


def _expectation(identity: Identity) -> str:
    return f'denied = "{identity.refused}"' if identity.refused else f"scopes = {json.dumps(sorted(identity.scopes))}"
