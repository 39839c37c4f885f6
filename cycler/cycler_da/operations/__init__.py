"""Operation: the loop that serves an experiment, and what watches, alerts and tidies up beside it."""
