"""Ways in which an observation file goes wrong; they are those of the drills (`cycler_da.drills.damage`)."""

from cycler_da.drills.damage import (
    claim_units,
    fill_with_noise,
    flip_bit,
    keep,
    put_on_another_grid,
    rename_variable,
    rewrite,
    rows,
    set_values,
    shift_time,
    truncate,
)

__all__ = [
    "claim_units",
    "fill_with_noise",
    "flip_bit",
    "keep",
    "put_on_another_grid",
    "rename_variable",
    "rewrite",
    "rows",
    "set_values",
    "shift_time",
    "truncate",
]
