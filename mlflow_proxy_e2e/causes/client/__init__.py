"""Causes at the client, and on the way to the target."""
