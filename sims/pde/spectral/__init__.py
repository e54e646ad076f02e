"""Periodic equations solved in Fourier space: the reference the surrogates are judged by.

`grid` knows the modes, `etdrk` the coefficients of the time scheme and `stepper` how one step is
made of them. Each equation adds a linear symbol and a nonlinearity. `initial` draws fields to
start from.
"""
