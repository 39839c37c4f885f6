"""Benchmarks of systems of few variables, many truths at once."""
