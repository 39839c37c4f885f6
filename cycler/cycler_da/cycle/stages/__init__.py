"""One file for each stage of a cycle; `cycle/running.py` has their order."""
