"""Every timeout of the suite, for itself and for targets, in one table.

``python -m mlflow_proxy_e2e.timeouts`` prints the table for docs/timeouts.md.
"""

from __future__ import annotations


class Timeout(float):
    """A number of seconds.

    Args:
        seconds: the number.
        what: what is limited.
        source: where the figure comes from.
    """

    what: str
    source: str

    def __new__(cls, seconds: float, what: str, source: str) -> Timeout:
        """Return the number, which knows what it limits."""
        timeout = super().__new__(cls, seconds)
        timeout.what, timeout.source = what, source
        return timeout


# What a target promises.
REVOCATION = Timeout(
    5,
    "until a key that was revoked or has expired is refused; a profile may promise another number",
    "the reference proxy asks about every call, so that it takes no time; 5 s are for proxies that cache decisions briefly",
)
CLOCK = Timeout(1, "by which the clocks of the target and the suite may differ", "chosen: synchronised clocks differ by less")
KEY_LIFE = Timeout(5, "from issuing a key to its expiry, where a test waits for it", "chosen: enough to use it on a busy machine")
RETRY_AFTER = Timeout(3600, "the longest Retry-After for a key over its limit", "limits are by the hour")
AT_ONCE = Timeout(15, "for a refusal that does not have to wait for anything", "5 s to connect, and more on a busy machine")
RECOVERY = Timeout(
    120,
    "from the end of an outage until calls succeed again",
    "that of READY, since MLflow may have to start; 5 s are for a name's old address, which a proxy may cache that long",
)
CLIENT_RECOVERY = Timeout(
    240,
    "from an outage of MLflow until MLflow's client, with its default settings, recovers by itself",
    "twice the time to recover: the client doubles its waiting time with each retry",
)

# Timeouts of the reference proxy and edge. Anything slower is an outage.
AUTH_SILENCE = Timeout(3, "that the proxy waits for the auth service before it answers 503", "the proxy's envoy.yaml")
MLFLOW_SILENCE = Timeout(60, "that the proxy waits for a byte from MLflow before it answers 504", "the proxy's envoy.yaml")
PROXY_SILENCE = Timeout(70, "that the edge waits for a byte from the proxy before it answers 504", "the edge's envoy.yaml")

# Limits for one call.
ANSWER = Timeout(
    30,
    "for any answer to begin",
    "half the time that the reference proxy waits for MLflow: no test needs more",
)
SMOKE_ANSWER = Timeout(5, "the same, for -m smoke on a deployed target", "as REACH: to its users, anything slower does not work")
WHOLE_ANSWER = Timeout(
    120, "for any answer to end, however slowly it comes", "chosen: the largest answer in a test takes a few seconds"
)
REACH = Timeout(5, "for a deployed target to answer at all, before the first test", "people do not wait longer for a page")
ATTEMPT = Timeout(5, "for an answer to an attempt to get past the gate", "a hop that is silent for so long has let nothing through")
KEY_SERVICE = Timeout(10, "for a call to the service that issues keys", "chosen: the service is known to be ready")
IDLE = Timeout(
    2, "after which a connection is not used again", "MLflow's uvicorn closes one that is idle for 5 s, and other servers earlier"
)
PAUSE = Timeout(
    3,
    "of a pause in a slow call, in either direction, that no hop may end",
    "chosen: any sensible limit is longer",
)
BESIDE = Timeout(10, "for the answer to a call while another is slow", "chosen: calls should not block each other")
PROGRAM = Timeout(60, "for a user's own program to end", "it imports MLflow, which takes 2 s, and ten times that on a busy machine")
SLOWER = Timeout(
    1,
    "by which a read may take longer through a route than with MLflow itself",
    "a hundred times what the reference edge and proxy take, and longer than any network round trip to a client",
)
LOGGED = Timeout(10, "until a request that was answered is in MLflow's log", "chosen: immediate, except on very busy machines")

# Limits for a diagnosis.
PROBE = Timeout(
    4,
    "for the answer to one question of a diagnosis",
    "longer than the reference proxy waits for the auth service",
)
DIAGNOSIS = Timeout(
    9, "for all questions of a diagnosis after tests (--diagnosis-time)", "the verdict is printed within 10 s of the last test"
)
CHECK = Timeout(
    30,
    "for all questions of the command check",
    "about 450 requests, at the 50 a second that a profile allows by default, and as long again for slow answers",
)
BETWEEN_CHECKS = Timeout(2, "between two checks with --wait", "chosen: what is being deployed changes in seconds, not faster")
UNNAMED = Timeout(
    1.5,
    "of that, kept for problems without a name, if no known cause was found",
    "chosen: a tenth of a second for each call whose answer is then compared with MLflow's own",
)
PATIENCE = Timeout(
    2.5, "of a pause in a slow call, in either direction, by a diagnosis", "as PAUSE, within the time of a diagnosis"
)
KEPT_WAITING = Timeout(2, "for MLflow to answer a read while another client uploads", "a hundred times as long as usual")
NO_TIME_OUT = Timeout(
    0.9, "within which an error cannot be a timeout", "no sensible limit is shorter, and a refusal takes milliseconds"
)
BETWEEN_SINGLE_CALLS = Timeout(
    0.3, "between the single calls of a diagnosis, after many at once were refused", "a limit of a few calls a second allows that"
)
HEALTH_CHECK = Timeout(
    2,
    "until an edge that checks its target's health has done so again",
    "most check every few seconds",
)
WRITTEN = Timeout(1, "until a hop's log has what a diagnosis looks for", "the lab's Envoys write their logs every 0.05 s")
WRITTEN_BY_ALL = Timeout(0.1, "until every hop has written what the first has", "as above")
SKEW = Timeout(60, "by which clocks that are not synchronised differ", "a synchronised clock is off by less than a second")

# Limits for a run.
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
# Timeouts

The limits for the suite and for targets, in seconds. In code, they are in `mlflow_proxy_e2e/timeouts.py`.

`python -m mlflow_proxy_e2e.timeouts` prints this page.

| name | seconds | for what | source |
|---|---|---|---|
"""


def page() -> str:
    """Return the page."""
    return HEAD + "".join(f"| `{name}` | {t:g} | {t.what} | {t.source} |\n" for name, t in TABLE.items())


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201
