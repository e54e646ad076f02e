"""Spectral elements: lattices of bricks, mapped hexahedra, and what the time loop sees of both."""
