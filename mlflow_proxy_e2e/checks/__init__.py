"""What tests require of a target: refusals, fidelity, and resistance to attempts to get past the gate."""
