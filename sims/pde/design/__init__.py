"""Design through models: what started, drives or governs a flow, found by solver or surrogate.

An `InverseProblem` is an `optimizers.Problem` for any method there. `in_windows` goes through
chaos; `verified` lets a surrogate propose and a solver judge.
"""
