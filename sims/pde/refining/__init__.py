"""Surrogates judged beside solvers, `geomopt run pde-refiner`: data, training, forecasts, trust.

`scenario.py` says what is learned and how, `study.py` has the cases, `plots.py` the pictures of the
report and `views.py` the frames of the viewer.
"""
