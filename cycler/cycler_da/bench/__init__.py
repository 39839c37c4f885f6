"""Benchmarks: every results table of the project, made by `cycler bench NAME [--quick] [--out DIR]`.

`registry` finds and runs them, `report` is what they give and how it is written, `machine` says where.
Each other module holds one benchmark; `table` draws the closing table of an experiment.
"""
