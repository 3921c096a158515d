"""Causes at the client and the way to the target."""
