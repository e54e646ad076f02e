"""Solvers of other libraries, asked and told like our own."""
