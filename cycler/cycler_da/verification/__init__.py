"""Verification: a score is a statistic that can be summed, and a final formula on the sums.

Numpy only. Read `statistics` (what is computed at a point), `sums` (what is stored for each cycle), `scores`
(what a table shows), then `consistency` (intervals), `spectra` and `innovations`.
"""
