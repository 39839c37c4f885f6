"""Fault drills: a small experiment is broken on purpose, again and again, and must recover by itself.

`catalogue` lists the drills and what they do not cover, `trials` counts what came of them, `system` is the small
experiment. `cycler drill` runs them; tests/faults uses the same machinery.
"""
