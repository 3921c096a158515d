"""Causes at the auth service, and the way from the proxy to it."""
