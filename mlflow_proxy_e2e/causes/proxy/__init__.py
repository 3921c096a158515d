"""Causes at the proxy, and on the way from it to MLflow."""
