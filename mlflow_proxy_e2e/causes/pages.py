"""The pages about causes, ``docs/causes/``: what users see, what is wrong, how to fix it, and how it is recognised.

``python -m mlflow_proxy_e2e.causes.pages docs/causes`` writes them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from mlflow_proxy_e2e.causes.catalogue import CATALOGUE, FAMILIES
from mlflow_proxy_e2e.causes.cause import Cause, CauseId, Product
from mlflow_proxy_e2e.causes.family import Family

LANGUAGES: Mapping[Product, str] = {"Envoy": "yaml", "nginx": "nginx", "AWS": ""}
# What a severity means.
SEVERITY = {
    "open": "a caller gets in, or can do something, although it must be refused",
    "loss": "data is lost, changed, duplicated or mixed up",
    "down": "something that should work does not",
    "contract": "it works, but answers differently than promised",
    "hardening": "it works, and could be better",
}
HEAD = """\
# Causes

Everything that a verdict can name, by the promise that it breaks. `mlflow-proxy-e2e check` prints a line for each promise, and
`mlflow-proxy-e2e explain ID` prints the page about a cause.

`python -m mlflow_proxy_e2e.causes.pages docs/causes` writes these pages.
"""
TRACKERS: Mapping[str, str] = {"mlflow": "mlflow/mlflow", "oidc": "mlflow-oidc/mlflow-oidc-auth"}  # on GitHub


def page(cause: Cause) -> str:
    """Return the page about a cause, as Markdown."""
    return "\n".join(_lines(cause))


def index() -> str:
    """Return the page that lists all causes, by the promise that they break."""
    return "\n".join([HEAD, *_listed()])


def pages() -> Mapping[str, str]:
    """Return all pages, by the name of the file."""
    return {"README.md": index(), **{f"{cause.id}.md": page(cause) for cause in CATALOGUE.values()}}


def _listed() -> Iterator[str]:
    for family in FAMILIES:
        yield from (f"## {_sentence(family.promise).rstrip('.')}", "", "| cause | hop | severity | symptom |", "|---|---|---|---|")
        yield from (f"| [`{each.id}`]({each.id}.md) | {each.hop} | {each.severity} | {each.symptom} |" for each in family.causes)
        yield ""


def _lines(cause: Cause) -> Iterator[str]:
    family = family_of(cause.id)
    yield from (f"# {cause.id}", "")
    yield from (f"**Symptom**: {cause.symptom}.", "")
    yield from (f"**What is wrong**: {cause.what}.", "")
    yield from (f"**Hop**: {cause.hop}. **Severity**: `{cause.severity}`, which means: {SEVERITY[cause.severity]}.", "")
    yield from ("## How to fix it", "", f"{_sentence(cause.remedy)}", "")
    for product, configuration in cause.fixes.items():
        yield from (f"{product}:", "", f"```{LANGUAGES[product]}", configuration.strip("\n"), "```", "")
    yield from ("## How it is recognised", "")
    module = f"mlflow_proxy_e2e/causes/{family.name}.py"
    yield from (f"It breaks the promise that {family.promise}. Its sign is in [`{module}`](../../{module}).", "")
    if cause.explains:
        yield from (
            f"Where it is found, these are not reported as well, as they would be its consequences: {_linked(cause.explains)}.",
            "",
        )
    if hidden_by := [other.id for other in CATALOGUE.values() if cause.id in other.explains]:
        yield from (f"It is not reported next to {_linked(hidden_by)}, which would explain it.", "")
    if neighbours := [other.id for other in family.causes if other.id != cause.id]:
        yield from (f"Its neighbours, from which it is told apart, are {_linked(neighbours)}.", "")
    if cause.reports:
        yield from ("## Public reports", "", *(f"- {linked(report)}" for report in cause.reports), "")


def family_of(cause: CauseId) -> Family:
    """Return the family that a cause belongs to. Raises StopIteration if there is none."""
    return next(family for family in FAMILIES if cause in (other.id for other in family.causes))


def linked(report: str) -> str:
    """Return a public report of a cause as a Markdown link."""
    tracker, hash_, number = report.partition("#")
    if tracker in TRACKERS and hash_:
        return f"[{report}](https://github.com/{TRACKERS[tracker]}/issues/{number})"
    return f"<{report}>" if report.startswith("https://") else report


def _linked(causes: Iterable[CauseId]) -> str:
    return ", ".join(f"[`{cause}`]({cause}.md)" for cause in causes)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def main(folder: Path) -> None:
    """Write all pages into a folder, and remove those of causes that no longer exist."""
    folder.mkdir(exist_ok=True)
    written = pages()
    for file in folder.glob("*.md"):
        if file.name not in written:
            file.unlink()
    for name, text in written.items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
