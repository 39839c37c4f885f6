"""Rank histograms of every system that is filtered."""
