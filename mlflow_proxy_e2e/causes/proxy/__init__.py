"""Causes at the proxy, and the way from it to MLflow."""
