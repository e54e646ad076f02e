"""Directions to poll in, and where they end in the box."""

from __future__ import annotations

import numpy as np


def poll_directions(normal: np.ndarray, opposite: bool) -> np.ndarray:
    """A positive basis of orthonormal directions, each scaled to a largest entry of 1.

    normal: (d,), random; the basis are the columns of the Householder matrix I - 2 v v^T with
        v = normal / |normal|.
    opposite: with the opposite of each, (2 d, d); otherwise with their negative sum, (d + 1, d),
        the least number of directions of which one descends.
    """
    normal = normal / np.sqrt(normal @ normal)
    basis = np.eye(len(normal)) - 2 * np.outer(normal, normal)
    others = -basis if opposite else -basis.sum(1, keepdims=True).T
    directions = np.concatenate((basis, others))
    return directions / np.abs(directions).max(1, keepdims=True)


def ordered(directions: np.ndarray, wish: np.ndarray) -> np.ndarray:
    """The directions (n, d), those first that go most the way of a wish (d,)."""
    cosines = directions @ wish / np.sqrt((directions * directions).sum(1))
    return directions[np.argsort(-cosines, kind="stable")]


def inside(points: np.ndarray, center: np.ndarray, lower: np.ndarray, upper: np.ndarray):
    """The points (n, d) moved into the box, without those that this moves onto the center."""
    points = np.clip(points, lower, upper)
    return points[(points != center).any(1)]
