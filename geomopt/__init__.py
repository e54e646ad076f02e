"""Differentiable geometry and rendering, and the runs, viewer and command line around them.

Start from `geomopt.geometry` (signed distance to mesh), `geomopt.render` (mesh to images) and
`geomopt.reconstruct`, which joins the two with `optimizers` to find a mesh from posed images.
"""
