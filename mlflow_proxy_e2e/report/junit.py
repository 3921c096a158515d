"""Adds what pytest does not know yet when it writes its JUnit report: severities of failures, and which are accepted, and why."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from pathlib import Path

from mlflow_proxy_e2e.report.recorder import SEVERITY
from mlflow_proxy_e2e.report.result import Check

BAD = {"failure": "failures", "error": "errors"}  # the child of a test case, and the attribute of the suite that counts them
ACCEPTED = "accepted"


def amend(file: Path, checks: Iterable[Check]) -> None:
    """Add the severity and the acceptance of these checks to the report that pytest has written. Raises OSError."""
    told = {_name(check.id): check for check in checks if check.severity}
    if not told or not file.exists():
        return
    report = ElementTree.parse(file)  # noqa: S314  # pytest has just written it
    for suite in report.iter("testsuite"):
        for case in suite.iter("testcase"):
            if check := told.get((case.get("classname", ""), case.get("name", ""))):
                _rate(case, str(check.severity))
                if check.accepted:
                    _accept(suite, case, check.accepted)
    report.write(file, encoding="utf-8", xml_declaration=True)


def _rate(case: ElementTree.Element, severity: str) -> None:
    for known in case.iterfind(f"properties/property[@name='{SEVERITY}']"):
        known.set("value", severity)


def _accept(suite: ElementTree.Element, case: ElementTree.Element, why: str) -> None:
    """Turn a failure into what pytest reports as an expected one."""
    bad = [child for child in case if child.tag in BAD]
    for child in bad:
        case.remove(child)
        _count(suite, BAD[child.tag], -1)
    if bad:
        skipped = ElementTree.SubElement(case, "skipped", type="pytest.xfail", message=f"{ACCEPTED}: {why}")
        skipped.text = bad[0].text
        _count(suite, "skipped", 1)


def _count(suite: ElementTree.Element, name: str, change: int) -> None:
    suite.set(name, str(int(suite.get(name, "0")) + change))


def _name(test: str) -> tuple[str, str]:
    """Return the class name and name of a test in JUnit reports."""
    path, _, name = test.rpartition("::")
    return path.removesuffix(".py").replace("/", "."), name
