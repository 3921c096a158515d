"""Whether an exception is the target's fault, or the suite's own."""

from __future__ import annotations

import errno

import pytest

from mlflow_proxy_e2e.errors import SuiteError

# Exceptions that no answer of a target can cause. AttributeError, KeyError and TypeError are not among them: MLflow's client and
# our own code raise these for an answer that is not as promised.
OWN = (SuiteError, pytest.FixtureLookupError, ImportError, NameError, SyntaxError)
OF_THIS_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE}

BLAME, SUITE = "blame", "suite"  # the user property of a report that says nothing about the target, and its value


def is_own(error: BaseException) -> bool:
    """Tell whether the suite, or the machine that it runs on, is at fault."""
    return isinstance(error, OWN) or (isinstance(error, OSError) and error.errno in OF_THIS_MACHINE)
