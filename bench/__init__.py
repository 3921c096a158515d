"""How long the suite takes, as ratios to what cannot be avoided, all measured in one run of this command."""
