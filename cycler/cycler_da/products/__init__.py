"""Products: the files of a cycle, how they are written, and how they become visible.

`dataset` is the frontier between torch and NetCDF; `store` publishes a cycle all at once; `lock` gives a
cycle one writer; `manifest` and `provenance` make what was published checkable.
"""
