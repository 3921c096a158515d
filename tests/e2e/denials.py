"""What every refusal must look like."""

from __future__ import annotations

import requests

from fixtures.target import Denial


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
