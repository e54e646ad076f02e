"""Physics and its surrogates, written on `geomopt` and `optimizers`: thin shells, room acoustics,
partial differential equations.

A simulator is a folder of its own: `thin_shell`, `acoustics`, `pde`. Constants are in a frozen
model, what changes is in a state, and the verbs are `step`, `simulate` and `rollout`.
"""
