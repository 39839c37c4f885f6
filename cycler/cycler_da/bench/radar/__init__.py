"""Benchmarks of real radar."""
