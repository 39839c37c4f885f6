"""Cycler: cycling data assimilation with a learned stochastic interpolant. The tour of the house is docs/tour.md."""

__version__ = "0.1.0"
