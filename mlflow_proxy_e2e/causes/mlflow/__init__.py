"""Causes at MLflow, and at what it runs on."""
