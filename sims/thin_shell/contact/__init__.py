"""Contact: which primitives are near, how far a step may go, barrier and friction terms."""
