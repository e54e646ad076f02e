"""Methods that sample and follow gradients, each as far as it pays."""
