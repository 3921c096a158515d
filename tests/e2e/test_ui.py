"""MLflow's pages, as a browser asks for them: through the proxy they are what MLflow itself serves."""

from __future__ import annotations

import re
from urllib.parse import urljoin

import pytest
import requests

from mlflow_proxy_e2e.clients import Rest, signed_in
from mlflow_proxy_e2e.target import Caller, Identity, Route

pytestmark = pytest.mark.capability("ui")

PAGE = "/"
LINK = re.compile(r'(?:src|href)="([^"]+)"')
# What a browser goes by when it shows a page and keeps it. Lengths and encodings are a proxy's to choose.
SHOWN_BY = ("Content-Type", "Cache-Control", "Content-Disposition", "Last-Modified", "X-Content-Type-Options")


@pytest.fixture(scope="module")
def assets(witness: Caller) -> dict[str, str]:
    """Return the path of an asset of each kind that the page asks for, by the ending of its name."""
    with Rest(*witness) as mlflow_itself:
        page = mlflow_itself.get(PAGE).text
    return {link.rpartition(".")[2]: urljoin(PAGE, link) for link in LINK.findall(page)}


@pytest.fixture(params=["page", "asset"])
def kept(request: pytest.FixtureRequest, assets: dict[str, str]) -> str:
    """Return the path of something that a browser keeps: what is always asked about again, and what is good for weeks."""
    return PAGE if request.param == "page" else assets["ico"]


def test_page(route: Route, insider: Identity, witness: Caller) -> None:
    """The page is the one that MLflow serves, and what it asks for is looked for beside it, not at the root of the host."""
    answer = _assert_same(witness, Caller(route, insider), PAGE)

    base = f"{route.url}/"
    links = [urljoin(base, link) for link in LINK.findall(answer)]
    assert links
    assert all(link.startswith(f"{base}static-files/") for link in links)


@pytest.mark.parametrize("kind", ["ico", "json"])
def test_asset(kind: str, route: Route, insider: Identity, witness: Caller, assets: dict[str, str]) -> None:
    """What the page asks for is what MLflow serves, to the byte, with what a browser shows and keeps it by."""
    _assert_same(witness, Caller(route, insider), assets[kind])


@pytest.mark.parametrize("kind", ["css", "js"])
def test_large_asset(kind: str, route: Route, insider: Identity, witness: Caller, assets: dict[str, str]) -> None:
    """So are styles and script, of which the page consists: the latter is megabytes long."""
    _assert_same(witness, Caller(route, insider), assets[kind])


@pytest.mark.parametrize(
    ("question", "about"),
    [pytest.param("If-None-Match", "ETag", id="tag"), pytest.param("If-Modified-Since", "Last-Modified", id="time")],
)
def test_not_modified(question: str, about: str, route: Route, insider: Identity, kept: str) -> None:
    """A browser that asks whether what it keeps is still good is told so, and is sent nothing again."""
    with Rest(route, insider) as rest:
        first = rest.get(kept)
        assert first.status_code == 200
        assert about in first.headers
        again = rest.get(kept, headers={question: first.headers[about]})

    assert first.content
    assert (again.status_code, again.content) == (304, b"")


def test_modified(route: Route, insider: Identity, witness: Caller, kept: str) -> None:
    """A browser that keeps something else is sent what there is now."""
    with Rest(*witness) as mlflow_itself, Rest(route, insider) as rest:
        expected, answer = mlflow_itself.get(kept), rest.get(kept, headers={"If-None-Match": '"of another version"'})

    assert answer.status_code == 200
    assert answer.content == expected.content


def test_head(route: Route, insider: Identity, kept: str) -> None:
    """HEAD is answered like GET, without the content."""
    with Rest(route, insider) as rest:
        whole, head = rest.get(kept), rest.head(kept)

    assert (whole.status_code, head.status_code) == (200, 200)
    assert _shown_by(head) == _shown_by(whole)
    assert head.content == b""


def test_version(route: Route, insider: Identity, witness: Caller) -> None:
    """The version is MLflow's."""
    version = _assert_same(witness, Caller(route, insider), "/version")

    assert re.match(r"\d+\.\d+", version)


def test_unknown_asset(route: Route, insider: Identity, witness: Caller) -> None:
    """An asset that there is not is answered with MLflow's 404, not with the page."""
    _assert_same(witness, Caller(route, insider), "/static-files/static/js/main.unknown.js", 404)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/ajax-api/3.0/mlflow/server-info", id="server-info", marks=pytest.mark.since("3.10")),
        pytest.param("/ajax-api/3.0/mlflow/ui-telemetry", id="telemetry", marks=pytest.mark.since("3.8")),
    ],
)
def test_start_page(path: str, route: Route, insider: Identity, witness: Caller) -> None:
    """What the page asks for before it shows anything is what MLflow says."""
    _assert_same(witness, Caller(route, insider), path)


@pytest.mark.since("3.6")
def test_search_jobs(route: Route, insider: Identity, witness: Caller) -> None:
    """Whoever may read finds the jobs of a kind: there are none. This search is a POST."""
    path, kind = "/ajax-api/3.0/jobs/search", {"job_name": "e2e-unknown"}

    with Rest(*witness) as mlflow_itself, Rest(route, insider) as rest:
        expected, answer = mlflow_itself.post(path, json=kind), rest.post(path, json=kind)

    assert (answer.status_code, answer.json()) == (200, {"jobs": []})
    assert answer.content == expected.content


def test_write_of_page(route: Route, control: Identity, witness: Caller, experiment_id: str) -> None:
    """Under a name under which somebody may read, a page of that name may write: browsers say whose page it is that does."""
    path = "/ajax-api/2.0/mlflow/experiments"
    read = f"{path}/get?experiment_id={experiment_id}"
    tag = {"experiment_id": experiment_id, "key": "by", "value": f"a page, through {route}"}

    with Rest(route, control) as rest:
        by_own_name = rest.get(read).content
        rest.headers["Host"] = "registry.example.com"
        if rest.get(read).content != by_own_name:
            pytest.skip("the target can be called by its own name alone, of which there may be no pages")
        answer = rest.post(f"{path}/set-experiment-tag", json=tag, headers={"Origin": "https://registry.example.com"})

    assert (answer.status_code, answer.text) == (200, "{}")
    with signed_in(*witness) as mlflow_itself:
        assert mlflow_itself.get_experiment(experiment_id).tags["by"] == tag["value"]


def _shown_by(answer: requests.Response) -> dict[str, str | None]:
    return {name: answer.headers.get(name) for name in SHOWN_BY}


def _assert_same(witness: Caller, caller: Caller, path: str, status: int = 200) -> str:
    """Assert that the caller gets what MLflow itself serves, and return it as text."""
    with Rest(*witness) as mlflow_itself, Rest(*caller) as rest:
        expected, answer = mlflow_itself.get(path), rest.get(path)
    assert answer.status_code == status
    assert _shown_by(answer) == _shown_by(expected)
    assert answer.content == expected.content
    return answer.text
