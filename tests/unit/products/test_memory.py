from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SIDE = 512  # one float32 member takes 1 MiB, its float64 moments 2 MiB each

CODE = f"""
import sys
from pathlib import Path
import numpy as np, torch
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.products.dataset import FileFacts, write_member_stream

torch.set_num_threads(1)
grid = Grid((Axis("y", {SIDE}), Axis("x", {SIDE})))
layout = Layout("big", (Variable("q", "s-1", "field"),), grid, np.timedelta64(60, "s"))
times = np.asarray(["2020-01-01"], dtype="datetime64[s]")
draws = np.random.default_rng(0)

def members(n):
    for member in range(n):
        yield member, torch.from_numpy(draws.standard_normal((1, 1, {SIDE}, {SIDE}), dtype=np.float32))

for n in (4, 40):
    write_member_stream(
        Path(sys.argv[1]) / f"{{n}}.nc", layout, times, members(n), facts=FileFacts("analysis", times[0]), n_members=n
    )
    print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""


def test_the_memory_of_a_product_write_does_not_grow_with_the_members(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CODE, str(tmp_path)], capture_output=True, text=True, check=True)
    # Not getrusage: its peak begins with that of the parent process, and would hide any growth below it.
    few, many = (int(line) for line in done.stdout.split())  # kilobytes, the peak so far
    # 36 more members are 36 MiB of values; what is left to 4 MiB is the allocator's own.
    assert many - few < 4 * 1024, f"peak memory grew from {few} to {many} kB"
    assert (tmp_path / "40.nc").stat().st_size > 30e6
