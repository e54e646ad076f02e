"""Methods that sample a population and need values only."""
