"""What is set on a user's machine and has a say in what MLflow's client sends."""

from __future__ import annotations

from mlflow_proxy_e2e.causes.cause import Cause, CauseId

OWN_CLIENT = r"test_own_client\.py::test_write_and_read"  # the test that runs in the user's environment as it is

CAUSES = (
    Cause(
        id=CauseId("basic-shadows-bearer"),
        hop="client",
        severity="down",
        symptom="401 with a good token",
        what="a user name and password are set, which MLflow's client sends instead of MLFLOW_TRACKING_TOKEN",
        remedy="unset MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, and empty ~/.mlflow/credentials",
        reddens=(OWN_CLIENT,),
    ),
    Cause(
        id=CauseId("netrc-override"),
        hop="client",
        severity="down",
        symptom="401 with a good token",
        what="an entry for the host in .netrc replaces the token",
        remedy="remove the entry, or set NETRC to another file",
        reddens=(OWN_CLIENT,),
    ),
    Cause(
        id=CauseId("env-proxy"),
        hop="client",
        severity="down",
        symptom="timeouts, refused connections or another server's answers, for one user only",
        what="the client's environment names an HTTP proxy that does not lead to the target",
        remedy="add the target's host to NO_PROXY",
        reports=("mlflow#11551",),
        reddens=(OWN_CLIENT,),
    ),
    Cause(
        id=CauseId("registry-elsewhere"),
        hop="client",
        severity="down",
        symptom="experiments work, but models fail or are not where others find them",
        what="MLFLOW_REGISTRY_URI sends models to another server",
        remedy="unset MLFLOW_REGISTRY_URI",
        reddens=(r"test_own_client\.py::test_register_model",),
    ),
    Cause(
        id=CauseId("tls-settings-conflict"),
        hop="client",
        severity="down",
        symptom="an exception before anything is sent over HTTPS",
        what="MLFLOW_TRACKING_INSECURE_TLS is set together with MLFLOW_TRACKING_SERVER_CERT_PATH",
        remedy="unset MLFLOW_TRACKING_INSECURE_TLS",
        reddens=(rf"{OWN_CLIENT}.*external",),
    ),
    Cause(
        id=CauseId("client-timeout-zero"),
        hop="client",
        severity="down",
        symptom="an exception before anything is sent",
        what="MLFLOW_HTTP_REQUEST_TIMEOUT is 0, which does not mean that there is no limit",
        remedy="unset MLFLOW_HTTP_REQUEST_TIMEOUT, or give it a number of seconds",
        reddens=(OWN_CLIENT,),
    ),
    Cause(
        id=CauseId("retry-hang"),
        hop="client",
        severity="contract",
        symptom="nothing happens for minutes, and then a call fails that had failed at once",
        what="MLflow's client retries seven times by default, waiting longer each time",
        remedy="set MLFLOW_HTTP_REQUEST_MAX_RETRIES to 1 or 2 for interactive use",
        reports=("mlflow#5744",),
        reddens=(r"test_own_client\.py::test_nobody_answers",),
    ),
    Cause(
        id=CauseId("workspace-set"),
        hop="client",
        severity="down",
        symptom="every call is refused because of its workspace, for one user only",
        what="MLFLOW_WORKSPACE is set, but MLflow runs without workspaces",
        remedy="unset MLFLOW_WORKSPACE",
        reddens=(OWN_CLIENT,),
    ),
)
