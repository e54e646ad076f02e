"""The reverse sweep of the time loop, by hand, and what of a run it keeps or repeats."""
