"""The catalogue of causes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import crossplane
import pytest
import yaml

from mlflow_proxy_e2e.causes.catalogue import CATALOGUE, FAMILIES, by_id
from mlflow_proxy_e2e.causes.cause import Cause, CauseId, Product
from mlflow_proxy_e2e.causes.pages import pages
from mlflow_proxy_e2e.facts.sign import UNTOLD
from tests.harness.conftest import ROOT

# What nginx's configuration needs around a snippet, by the snippet's first directive.
AROUND = {"http": "{}", "server": "http {{ {} }}", "location": "http {{ server {{ {} }} }}"}
LINES = 12  # a snippet has no more
CAUSE = Cause(id=CauseId("one"), hop="proxy", severity="down", symptom="404", what="it is wrong", remedy="correct it", shows=UNTOLD)


def test_two_causes_of_the_same_id() -> None:
    """Two causes cannot have the same id."""
    with pytest.raises(ValueError, match="the id one"):
        by_id((CAUSE, CAUSE))


def test_explanation_of_what_is_not_in_the_catalogue() -> None:
    """A cause explains only what is in the catalogue."""
    with pytest.raises(ValueError, match="one explains other"):
        by_id((replace(CAUSE, explains=(CauseId("other"),)),))


def test_pages() -> None:
    """The documentation has the current page of each cause, and no others."""
    folder = ROOT / "docs" / "causes"

    assert {file.name: file.read_text() for file in folder.iterdir()} == pages()


def test_causes_are_in_the_folder_of_their_hop() -> None:
    """A family's module is in the folder of the hop of all its causes."""
    for family in FAMILIES:
        assert {cause.hop for cause in family.causes} == {family.name.partition("/")[0]}, family.name


@pytest.mark.parametrize("cause", CATALOGUE.values(), ids=CATALOGUE)
def test_texts(cause: Cause) -> None:
    """A cause has a one-line symptom, description and remedy, and names the tests that it makes fail."""
    for text in (cause.symptom, cause.what, cause.remedy):
        assert re.fullmatch(r"[^\n|]*[^\n.|]", text)
    assert all(re.compile(pattern) for pattern in cause.reddens)
    assert cause.reddens


def fixes(product: Product) -> list[object]:
    """Return the parameters of a test for each cause with configuration of a product."""
    return [pytest.param(cause.fixes[product], id=cause.id) for cause in CATALOGUE.values() if product in cause.fixes]


def directives(block: Iterable[Any]) -> Iterator[str]:
    """Yield the names of a block's directives, as crossplane has parsed them. The lines of a map are values, and no directives."""
    for each in block:
        yield each["directive"]
        if each["directive"] != "map":
            yield from directives(each.get("block", ()))


@pytest.mark.parametrize("fix", fixes("Envoy"))
def test_fix_in_envoy(fix: str) -> None:
    """A fix for Envoy is a short piece of YAML."""
    assert isinstance(yaml.safe_load(fix), dict)
    assert len(fix.splitlines()) <= LINES


@pytest.mark.parametrize("fix", fixes("nginx"))
def test_fix_in_nginx(fix: str, tmp_path: Path) -> None:
    """A fix for nginx is a short piece of configuration, whose directives nginx knows and permits where they stand."""
    directive = fix.split(maxsplit=1)[0]
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(AROUND[directive].format(f"\n{fix}\n"))

    parsed = crossplane.parse(str(configuration), single=True)
    assert parsed["errors"] == []
    assert set(directives(parsed["config"][0]["parsed"])) <= crossplane.analyzer.DIRECTIVES.keys()
    assert len(fix.splitlines()) <= LINES


@pytest.mark.parametrize("fix", fixes("AWS"))
def test_fix_in_aws(fix: str) -> None:
    """A fix for AWS is a few commands, or a short piece of a CloudFormation template."""
    assert "aws " in fix or isinstance(yaml.safe_load(fix), dict)
    assert len(fix.splitlines()) <= LINES
