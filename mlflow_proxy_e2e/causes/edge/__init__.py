"""Causes at the edge."""
