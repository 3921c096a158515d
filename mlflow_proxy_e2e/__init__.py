"""End-to-end tests for MLflow behind a proxy that checks API keys."""
