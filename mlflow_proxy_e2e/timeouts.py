"""Every time-out that the suite holds itself and targets to, in one table.

``python -m mlflow_proxy_e2e.timeouts`` prints the table as it stands in docs/timeouts.md.
"""

from __future__ import annotations


class Timeout(float):
    """A number of seconds.

    Args:
        seconds: how many.
        what: what they are for.
        source: where the figure comes from.
    """

    what: str
    source: str

    def __new__(cls, seconds: float, what: str, source: str) -> Timeout:
        """Return the number, which knows what it is for."""
        timeout = super().__new__(cls, seconds)
        timeout.what, timeout.source = what, source
        return timeout


# What a target promises.
REVOCATION = Timeout(
    5,
    "until a key that counts no more, because it was revoked or has expired, is refused; a profile may promise another number",
    "the reference proxy asks about every call, so that it takes no time; 5 s are for those that remember an answer for a moment",
)
CLOCK = Timeout(
    1, "by which clocks of a target and of the suite may differ", "chosen: a clock that is kept over a network does better"
)
KEY_LIFE = Timeout(5, "from the issue of a key to its expiry, where a test waits for that", "chosen: a busy machine gets to use it")
RETRY_AFTER = Timeout(3600, "the longest that a key over its limit may be told to wait", "limits are by the hour")
AT_ONCE = Timeout(15, "for a refusal that nothing is waited for", "5 s to connect, and as much again on a busy machine")
RECOVERY = Timeout(
    120,
    "from the end of an outage until calls succeed again",
    "that of READY, since MLflow may have to start; 5 s are for a name's old address, which a proxy may know for so long",
)
CLIENT_RECOVERY = Timeout(
    240,
    "from an outage of MLflow's until MLflow's client, as it is set up by default, goes on by itself",
    "twice the time to recover: the client doubles the time for which it waits before it asks again",
)

# What the reference proxy and edge wait for. What is slower than that is an outage.
AUTH_SILENCE = Timeout(3, "for which the proxy waits for the auth service, until it answers 503", "the proxy's envoy.yaml")
MLFLOW_SILENCE = Timeout(60, "for which the proxy waits for a word of MLflow, until it answers 504", "the proxy's envoy.yaml")
PROXY_SILENCE = Timeout(70, "for which the edge waits for a word of the proxy, until it answers 504", "the edge's envoy.yaml")

# What one call may take.
ANSWER = Timeout(
    30,
    "for any one answer to begin",
    "half of what the reference proxy waits for MLflow: no test asks for more",
)
SMOKE_ANSWER = Timeout(
    5, "the same, where -m smoke asks a deployed target", "as REACH: what takes longer there does not work, for those who use it"
)
WHOLE_ANSWER = Timeout(
    120, "for any one answer to end, however slowly it comes", "chosen: the largest that a test asks for takes a few seconds"
)
REACH = Timeout(5, "for a deployed target to answer at all, before the first test", "a person waits no longer for a page")
ATTEMPT = Timeout(
    5, "for an answer to an attempt to get past the gate", "who says nothing for so long has let nothing through either"
)
KEY_SERVICE = Timeout(10, "for a call to whoever issues keys", "chosen: it has shown that it is ready")
IDLE = Timeout(
    2, "after which a connection is not used again", "MLflow's uvicorn closes one that is idle for 5 s, and other servers earlier"
)
PAUSE = Timeout(
    3,
    "in which nothing of a slow call is sent, or taken, and for which nobody may end it",
    "chosen: any limit that makes sense is longer",
)
BESIDE = Timeout(10, "for the answer to a call while somebody else's slow one goes on", "chosen: nobody has to wait for it at all")
PROGRAM = Timeout(60, "for a program of the user's own to end", "it imports MLflow anew, 2 s and ten times that on a busy machine")
LOGGED = Timeout(
    10, "until a request that was answered is in MLflow's log", "chosen: it is there at once on all but very busy machines"
)

# What a diagnosis may take.
PROBE = Timeout(
    4,
    "for the answer to one question of a diagnosis",
    "longer than the reference proxy waits for the auth service",
)
DIAGNOSIS = Timeout(9, "for all questions of a diagnosis together", "a verdict is on the screen 10 s after the last test")
UNNAMED = Timeout(
    1.5,
    "of that kept for what no cause has a name for, if nothing that has one was found",
    "chosen: a tenth of a second for each of the calls that are then held against MLflow's own",
)
PATIENCE = Timeout(
    2.5, "in which nothing of a slow call is sent, or taken, by a diagnosis", "as PAUSE, within what a diagnosis may take"
)
KEPT_WAITING = Timeout(2, "within which MLflow answers a read while somebody else uploads", "a hundred times what it takes")
NO_TIME_OUT = Timeout(
    0.9, "within which an error is no time-out", "no limit that makes sense is shorter, and a refusal takes milliseconds"
)
BETWEEN_SINGLE_CALLS = Timeout(
    0.3, "between calls of a diagnosis that are made one by one, after many at once were refused", "a limit of few calls a second"
)
HEALTH_CHECK = Timeout(
    2,
    "until an edge that checks its target's health has done so again",
    "most check every second or few",
)
WRITTEN = Timeout(1, "until a hop's log has what a diagnosis looks for", "an Envoy of ours writes its log every 0.05 s")
WRITTEN_BY_ALL = Timeout(0.1, "until every hop has written what the first has", "as above")
SKEW = Timeout(60, "by which clocks differ that nobody keeps", "a kept one is off by less than a second")

# What a run may take.
READY = Timeout(
    120, "for all services to become ready (--ready-timeout)", "10 s is usual; a cold disk on a busy machine has taken 60"
)
INSTALL = Timeout(
    900,
    "for MLflow of another version, and the 70 packages that it needs, to be installed (--mlflow-server-version)",
    "30 s are usual, 1 s where uv has them; an index may be slow",
)
GONE = Timeout(10, "until no process, port or file of a run is left, however it ended", "promised in README.md")
GONE_FROM_DOCKER = Timeout(30, "until nothing of a run is left in Docker", "promised in README.md")

TABLE = {name: value for name, value in vars().copy().items() if isinstance(value, Timeout)}

HEAD = """\
# Time-outs

What the suite holds itself and targets to, in seconds. In code, `mlflow_proxy_e2e/timeouts.py` has each by its name.

This page is what `python -m mlflow_proxy_e2e.timeouts` prints.

| name | seconds | what for | where from |
|---|---|---|---|
"""


def page() -> str:
    """Return the page."""
    return HEAD + "".join(f"| `{name}` | {t:g} | {t.what} | {t.source} |\n" for name, t in TABLE.items())


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201
