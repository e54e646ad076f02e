"""Physics and its surrogates, written on `geomopt` and `optimizers`: thin shells, room acoustics,
partial differential equations.

`thin_shell` is there, the others follow. A simulator is a folder of its own: constants in a frozen
model, what changes in a state, and the verbs `initial_state()`, `step(state, control)` and
`rollout(...)`.
"""
