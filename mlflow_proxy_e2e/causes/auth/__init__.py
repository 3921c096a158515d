"""Causes at the auth service, and on the way from the proxy to it."""
