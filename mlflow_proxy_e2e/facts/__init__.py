"""What is observed of a target under diagnosis, and what can be concluded from it: each asked once, recorded, and replayable."""
