"""Benchmarks of turbulence on a torus: quasi-geostrophic, driven and Kolmogorov flow."""
