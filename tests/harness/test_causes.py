"""The catalogue of causes."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from mlflow_proxy_e2e.causes.catalogue import CATALOGUE, FAMILIES, by_id
from mlflow_proxy_e2e.causes.cause import Cause, CauseId
from mlflow_proxy_e2e.causes.page import pages
from mlflow_proxy_e2e.facts.sign import UNTOLD
from tests.harness.conftest import ROOT

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
