"""Observation space: operators, observation files, synthetic networks and quality control."""
