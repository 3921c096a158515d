"""MLflow's pages, as a browser requests them: through the proxy, they are what MLflow itself serves."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urljoin, urlsplit

import pytest
import requests
from mlflow import MlflowClient

from mlflow_proxy_e2e.rest import Rest
from mlflow_proxy_e2e.target import Caller, Route

pytestmark = pytest.mark.capability("ui")

PAGE = "/"
LINK = re.compile(r'(?:src|href)="([^"]+)"')
# Headers by which a browser shows and caches a page. Lengths and encodings are up to the proxy.
SHOWN_BY = ("Content-Type", "Cache-Control", "Content-Disposition", "Last-Modified", "X-Content-Type-Options")
UNCOMPRESSED = {"Accept-Encoding": "identity"}  # a compressed answer may lack validators

AssertServed = Callable[..., str]


@pytest.fixture(scope="module")
def assets(witness: Caller) -> dict[str, str]:
    """Return the path of an asset of each kind that the page uses, by the ending of its name."""
    with Rest(*witness) as truth_rest:
        page = truth_rest.get(PAGE).text
    return {link.rpartition(".")[2]: urljoin(PAGE, link) for link in LINK.findall(page)}


@pytest.fixture(params=["page", "asset"])
def cached(request: pytest.FixtureRequest, assets: dict[str, str]) -> str:
    """Return the path of something that a browser caches: the page is revalidated each time, an asset stays fresh for weeks."""
    return PAGE if request.param == "page" else assets["ico"]


@pytest.fixture
def assert_served(insider_rest: Rest, truth_rest: Rest) -> AssertServed:
    """Return a function that asserts that a route serves what MLflow itself serves on a path, and returns it as text."""

    def assert_same(path: str, status: int = 200) -> str:
        expected, answer = truth_rest.get(path), insider_rest.get(path)
        assert answer.status_code == status
        assert _shown_by(answer) == _shown_by(expected)
        assert answer.content == expected.content
        return answer.text

    return assert_same


def test_page(route: Route, assert_served: AssertServed) -> None:
    """The page is the one that MLflow serves, and its links lead below the route's URL, not to the root of the host."""
    page = assert_served(PAGE)

    base = f"{route.url}/"
    links = [urljoin(base, link) for link in LINK.findall(page)]
    assert links
    assert all(link.startswith(f"{base}static-files/") for link in links)


@pytest.mark.parametrize("kind", ["ico", "json"])
def test_asset(kind: str, assets: dict[str, str], assert_served: AssertServed) -> None:
    """The page's assets are what MLflow serves, to the byte, with the headers by which a browser shows and caches them."""
    assert_served(assets[kind])


@pytest.mark.parametrize("kind", ["css", "js"])
def test_large_asset(kind: str, assets: dict[str, str], assert_served: AssertServed) -> None:
    """So are the page's styles and its script, which has several megabytes."""
    assert_served(assets[kind])


@pytest.mark.parametrize(
    ("condition", "validator"),
    [pytest.param("If-None-Match", "ETag", id="tag"), pytest.param("If-Modified-Since", "Last-Modified", id="time")],
)
def test_not_modified(condition: str, validator: str, insider_rest: Rest, cached: str) -> None:
    """A browser that revalidates what it has cached gets 304, without the content."""
    first = insider_rest.get(cached, headers=UNCOMPRESSED)
    assert first.status_code == 200
    assert validator in first.headers
    again = insider_rest.get(cached, headers={condition: first.headers[validator], **UNCOMPRESSED})

    assert first.content
    assert (again.status_code, again.content) == (304, b"")


def test_modified(insider_rest: Rest, truth_rest: Rest, cached: str) -> None:
    """A browser that has cached another version gets the current one."""
    expected, answer = truth_rest.get(cached), insider_rest.get(cached, headers={"If-None-Match": '"of another version"'})

    assert answer.status_code == 200
    assert answer.content == expected.content


def test_head(insider_rest: Rest, cached: str) -> None:
    """HEAD is answered like GET, without the content."""
    whole, head = insider_rest.get(cached), insider_rest.head(cached)

    assert (whole.status_code, head.status_code) == (200, 200)
    assert _shown_by(head) == _shown_by(whole)
    assert head.content == b""


def test_version(assert_served: AssertServed) -> None:
    """The version is MLflow's."""
    version = assert_served("/version")

    assert re.match(r"\d+\.\d+", version)


def test_unknown_asset(assert_served: AssertServed) -> None:
    """An unknown asset is answered with MLflow's 404, not with the page."""
    assert_served("/static-files/static/js/main.unknown.js", 404)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/ajax-api/3.0/mlflow/server-info", id="server-info", marks=pytest.mark.since("3.10")),
        pytest.param("/ajax-api/3.0/mlflow/ui-telemetry", id="telemetry", marks=pytest.mark.since("3.8")),
    ],
)
def test_start_page(path: str, assert_served: AssertServed) -> None:
    """The calls that the page makes before it shows anything get MLflow's own answers."""
    assert_served(path)


@pytest.mark.since("3.6")
def test_search_jobs(insider_rest: Rest, truth_rest: Rest) -> None:
    """Identities that may read get the jobs of a kind: there are none. This search is a POST."""
    path, kind = "/ajax-api/3.0/jobs/search", {"job_name": "e2e-unknown"}

    expected, answer = truth_rest.post(path, json=kind), insider_rest.post(path, json=kind)

    assert (answer.status_code, answer.json()) == (200, {"jobs": []})
    assert answer.content == expected.content


def test_write_of_page(route: Route, rest: Rest, truth: MlflowClient, experiment_id: str) -> None:
    """A page under the route's own URL may write: browsers name its origin."""
    url = urlsplit(route.url)
    tag = {"experiment_id": experiment_id, "key": "by", "value": f"a page, through {route}"}

    answer = rest.post(
        "/ajax-api/2.0/mlflow/experiments/set-experiment-tag", json=tag, headers={"Origin": f"{url.scheme}://{url.netloc}"}
    )

    assert (answer.status_code, answer.text) == (200, "{}")
    assert truth.get_experiment(experiment_id).tags["by"] == tag["value"]


def _shown_by(answer: requests.Response) -> dict[str, str | None]:
    return {name: answer.headers.get(name) for name in SHOWN_BY}
