"""What every refusal must look like, to a script and to the MLflow client, and what no answer may reveal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import requests
from mlflow.exceptions import MlflowException
from urllib3.exceptions import InvalidHeader, ResponseError
from urllib3.util import Retry

from mlflow_proxy_e2e.rest import Rest, sender_of
from mlflow_proxy_e2e.target import Denial, Identity
from mlflow_proxy_e2e.wire import Answer, Request, Wire, describe

NO_KEY = Identity("no-key", refused="unauthenticated")  # sends no key
RETRIED = (408, 429, 500, 502, 503, 504)  # the statuses that make MLflow's client retry
IDENTITY_HEADERS = ("X-Auth-User", "X-Auth-Key-Id")  # what the proxy tells MLflow about the caller


class Refused(NamedTuple):
    """An identity that must be refused: its HTTP session, and the refusal to expect."""

    rest: Rest
    denial: Denial


def assert_denied(answer: requests.Response, denial: Denial) -> None:
    """Assert the exact refusal: status, MLflow's JSON format with error code and message, and the header that belongs to it."""
    came = Answer(answer.status_code, tuple(answer.headers.items()), answer.content)
    wrong = wrong_in_denial(came, denial, str(answer.request.method))
    assert not wrong, _message(answer, came, denial, wrong)
    assert_discreet(answer)


def _message(answer: requests.Response, came: Answer, denial: Denial, wrong: Sequence[str]) -> str:
    sent, sender = answer.request, sender_of(answer)
    path = str(sent.url).removeprefix(sender.route.url)
    request = Request(str(sent.method), path, body=sent.body if isinstance(sent.body, bytes) else b"")
    return describe(Wire(*sender), request, came, denial, wrong)


def wrong_in_denial(answer: Answer, denial: Denial, method: str = "GET") -> list[str]:
    """Return what is wrong with the refusal of a call with that method."""
    wrong = []
    if answer.status != denial.status:
        wrong.append(f"the status is {answer.status}")
    if method == "HEAD":
        return wrong  # it has no body, and may lack the headers that describe one
    if denial.error_code is None:
        pass  # any body will do
    elif (answer.header("Content-Type") or "").partition(";")[0] != "application/json":
        wrong.append(f"the content type is {answer.header('Content-Type')}")
    elif not _is_error(answer, denial.error_code):
        wrong.append("the body is not MLflow's JSON for an error with that code and a message")
    if denial.header and not answer.header(denial.header):
        wrong.append(f"there is no {denial.header}")
    elif denial.header == "Retry-After" and not _is_delay(answer.header("Retry-After")):
        wrong.append("Retry-After is neither seconds nor a date ahead")
    return wrong


def _is_error(answer: Answer, code: str) -> bool:
    try:
        body = answer.json()
    except ValueError:
        return False
    if not isinstance(body, dict):
        return False
    message = body.get("message")
    return body.get("error_code") == code and isinstance(message, str) and bool(message)


def _is_delay(value: str | None) -> bool:
    try:
        return value is not None and Retry().parse_retry_after(value) > 0  # parsed as clients parse it
    except InvalidHeader:
        return False


def assert_discreet(answer: requests.Response) -> None:
    """Assert that the answer contains no key that was sent in a header, and not the identity that it belongs to."""
    assert not any(name in answer.headers for name in IDENTITY_HEADERS)
    sent = answer.request.headers
    keys = {sent.get("Authorization", "").partition(" ")[2], sent.get("X-API-Key", "")} - {""}
    assert not any(echoes(answer, key) for key in keys)


def echoes(answer: requests.Response, key: str) -> bool:
    """Tell whether the key is in the answer. Asserted on this, a failure does not print the key."""
    return key in answer.text or any(key in value for value in answer.headers.values())


def assert_raised(error: MlflowException, denial: Denial) -> None:
    """Assert what the MLflow client, told not to retry, raises for a refusal, if the body is in MLflow's format."""
    if denial.status in RETRIED:
        # Out of retries, the client raises this instead, and the answer's content is lost.
        assert error.error_code == "INTERNAL_ERROR"
        assert ResponseError.SPECIFIC_ERROR.format(status_code=denial.status) in error.message
    elif denial.error_code is not None:
        assert error.error_code == denial.error_code
