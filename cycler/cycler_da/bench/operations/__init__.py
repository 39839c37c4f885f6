"""Benchmarks of the service: what goes wrong, what is published, what can be made again."""
