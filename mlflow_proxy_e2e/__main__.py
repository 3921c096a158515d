"""``python -m mlflow_proxy_e2e`` is the command ``mlflow-proxy-e2e``."""

from __future__ import annotations

from mlflow_proxy_e2e.cli import main

main(prog_name="mlflow-proxy-e2e")
