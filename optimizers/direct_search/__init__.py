"""Methods that poll around the best point, and need values only."""
