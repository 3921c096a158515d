"""Where artifacts are kept, and whether MLflow serves them."""

from __future__ import annotations

from collections.abc import Callable

from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.mlflow.serving import directly
from mlflow_proxy_e2e.causes.patterns import ALL, ARTIFACTS, LARGE_UPLOADS
from mlflow_proxy_e2e.facts.facts import Facts
from mlflow_proxy_e2e.facts.question import Reply
from mlflow_proxy_e2e.facts.sandbox import Sandbox, sandbox
from mlflow_proxy_e2e.facts.sign import NO, Reading, Shows, Sign
from mlflow_proxy_e2e.facts.stopped import stops
from mlflow_proxy_e2e.wire import Request

SMALL = b"x"


def _uploaded(test: Callable[[Sandbox, Reply], bool]) -> Sign:
    """Return the sign that MLflow itself does not store a small artifact, and that its answer is such."""

    def read(facts: Facts) -> Reading:
        own = sandbox(facts) if "artifacts" in facts.target.capabilities and facts.open_routes else None
        small = facts.ask_directly(Request("PUT", f"{own.artifacts}/small.txt", body=SMALL)) if own and own.is_there else None
        if own is None or small is None or not test(own, small) or facts.again(small.question).status != small.status:
            return NO
        return Reading(Shows.YES, (small,), ("mlflow",))

    return Sign(read)


def _located_at(test: Callable[[str], bool]) -> Sign:
    """Return the sign that an experiment's artifacts are at such a location, where MLflow serves artifacts at all."""

    def read(facts: Facts) -> Reading:
        own = sandbox(facts) if "artifacts" in facts.target.capabilities and facts.open_routes else None
        if own is None or not own.is_there or not test(own.artifact_location):
            return NO
        scheme, _, rest = own.artifact_location.partition(":")
        place = f"{scheme}://a named host" if rest.startswith("//") else f"{scheme}:…"
        return Reading(Shows.YES, (f"an experiment's artifacts are at {place}",), ("mlflow",))

    return Sign(read)


def _is_served(own: Sandbox) -> bool:
    return own.artifact_location.startswith("mlflow-artifacts:")


def _serves_artifacts_only(reply: Reply) -> bool:
    return reply.status == 503 and b"artifacts-only" in reply.body.lower()


def _full(facts: Facts) -> Reading:
    own = sandbox(facts) if {"artifacts", "large-bodies"} <= facts.target.capabilities and facts.open_routes else None
    large = facts.ask_directly(own.large_file(facts.direct)) if own and own.is_there else None
    fails = large and (large.status or 0) >= 500 and (facts.again(large.question).status or 0) >= 500
    return Reading(Shows.YES, (large,), ("mlflow",)) if fails else NO


serving_off = _uploaded(lambda _, small: small.status == 503)
not_kept = _uploaded(lambda own, small: small.status not in (200, 503) and _is_served(own))
artifacts_only_words = stops(lambda _, seen: _serves_artifacts_only(seen.reply), lambda _: ("mlflow",))


CAUSES = (
    Cause(
        id=CauseId("artifacts-disabled"),
        hop="mlflow",
        severity="down",
        symptom="503 on artifacts, while everything else works",
        what="MLflow runs with --no-serve-artifacts",
        remedy="serve artifacts through the tracking server",
        shows=serving_off,
        reddens=(ARTIFACTS,),
    ),
    Cause(
        id=CauseId("artifacts-only"),
        hop="mlflow",
        severity="down",
        symptom="503 on everything but artifacts",
        what="MLflow runs with --artifacts-only",
        remedy="send all other calls to another server, or run this one without --artifacts-only",
        shows=directly(_serves_artifacts_only) | artifacts_only_words,
        reddens=(ALL,),
    ),
    Cause(
        id=CauseId("direct-store"),
        hop="mlflow",
        severity="down",
        symptom="clients ask for the artifact store's credentials, or cannot reach it",
        what="MLflow's --default-artifact-root is the store itself, so that clients access it directly",
        remedy="remove the option, set --artifacts-destination to the store, and recreate the experiments",
        reports=("mlflow#5659", "mlflow#10326"),
        shows=_located_at(lambda place: not place.startswith("mlflow-artifacts:")) & ~serving_off,
        reddens=(ARTIFACTS,),
    ),
    Cause(
        id=CauseId("artifact-host-fixed"),
        hop="mlflow",
        severity="down",
        symptom="clients send artifacts to a different host than the one in their tracking URI",
        what="MLflow's --default-artifact-root names a host, which clients call without going through the proxy",
        remedy="leave the host out: mlflow-artifacts:/",
        shows=_located_at(lambda place: place.startswith("mlflow-artifacts://")) & ~serving_off,
        reddens=(ARTIFACTS,),
    ),
    Cause(
        id=CauseId("artifact-store-missing"),
        hop="mlflow",
        severity="down",
        symptom="500 on uploads, while everything else works",
        what="the location in --artifacts-destination does not exist: an unmounted volume, a misspelt bucket",
        remedy="mount the volume, or correct the name",
        shows=not_kept,
        reddens=(ARTIFACTS,),
    ),
    Cause(
        id=CauseId("disk-full"),
        hop="mlflow",
        severity="down",
        symptom="500 on large uploads, while small ones work",
        what="the disk on which MLflow keeps artifacts has no room for a large file",
        remedy="free disk space",
        shows=_uploaded(lambda _, small: small.status == 200) & Sign(_full),
        reddens=(*LARGE_UPLOADS,),
    ),
)
