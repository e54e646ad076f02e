"""Closed forms that the solver is judged by: images, modes of boxes, reflection, statistics."""
