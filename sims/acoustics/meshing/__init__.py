"""Hexahedra for the inside of a triangle mesh: cells, layers along walls, snapping, smoothing."""
