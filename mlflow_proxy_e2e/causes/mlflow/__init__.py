"""Causes at MLflow and what it runs on."""
