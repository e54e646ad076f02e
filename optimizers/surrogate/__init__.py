"""Methods that learn a model of the function: trained networks and Gaussian processes."""
