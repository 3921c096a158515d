"""What tests of a target hold it to: refusals, fidelity, and attempts to get past the gate."""
