"""Observations of a target under diagnosis, each made once, recorded and replayable; and the signs that are read from them."""
