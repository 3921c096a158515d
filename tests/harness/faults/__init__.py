"""Tests that faults are caught and named, and nothing else is."""
