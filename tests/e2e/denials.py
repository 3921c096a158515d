"""What every refusal must look like, to a script and to the MLflow client, and what no answer may say."""

from __future__ import annotations

import requests
from mlflow.exceptions import MlflowException
from urllib3.exceptions import ResponseError
from urllib3.util import Retry

from fixtures.target import Denial

IDENTITY_HEADERS = ("X-Auth-User", "X-Auth-Key-Id")  # what the proxy tells MLflow about the caller


def assert_denied(answer: requests.Response, denial: Denial) -> None:
    """Assert the exact refusal: status, MLflow's JSON shape with the error code and a message, and the header that goes with it."""
    assert answer.status_code == denial.status
    assert answer.headers["Content-Type"].partition(";")[0] == "application/json"
    body = answer.json()
    assert set(body) == {"error_code", "message"}
    assert body["error_code"] == denial.error_code
    assert body["message"]
    if denial.header:
        assert answer.headers.get(denial.header)
    if denial.header == "Retry-After":
        # Read as clients do: seconds or a date, anything else raises.
        assert Retry().parse_retry_after(answer.headers["Retry-After"]) > 0
    assert_discreet(answer)


def assert_discreet(answer: requests.Response) -> None:
    """Assert that the answer names neither a key that was sent in a header nor whom it was found to belong to."""
    assert not any(name in answer.headers for name in IDENTITY_HEADERS)
    sent = answer.request.headers
    keys = {sent.get("Authorization", "").removeprefix("Bearer "), sent.get("X-API-Key", "")} - {""}
    assert not any(echoes(answer, key) for key in keys)


def echoes(answer: requests.Response, key: str) -> bool:
    """Tell whether the key is in the answer. Asserted on this, a failure does not print the key."""
    return key in answer.text or any(key in value for value in answer.headers.values())


def assert_raised(error: MlflowException, denial: Denial) -> None:
    """Assert what the MLflow client, told not to retry, raises for a refusal."""
    if denial.status == requests.codes.too_many_requests:
        # The client retries 429. When it may not retry any more it raises that instead, and what the answer said is lost.
        assert error.error_code == "INTERNAL_ERROR"
        assert ResponseError.SPECIFIC_ERROR.format(status_code=denial.status) in error.message
    else:
        assert error.error_code == denial.error_code
