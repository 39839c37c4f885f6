"""Drills of what fails inside a cycle: an analysis that blows up, outliers, memory, maps and page."""

from __future__ import annotations

import random

import netCDF4
import numpy as np
import torch

from cycler_da.drills import damage
from cycler_da.drills import system as tiny
from cycler_da.drills.trials import Ground, Outcome, is_subset, judged, stamp_of

ONE = "cycles.count=1"

#: Beyond what a process has when its command starts; a cycle of the small system takes some 30 MiB.
MOST_MEMORY = 48 << 20
#: A thread that cannot start for want of memory may leave its process waiting: an operator would end it (s).
PATIENCE = 20.0


def blown_up(ground: Ground, draw: random.Random) -> Outcome:
    """NaN, infinity or no spread at all in an analysis: nothing of it is published, or the background stands in."""
    broken = {"analysis": {"way": draw.choice(("nan", "inf", "-inf", "collapse")), "seed": draw.randrange(10**6)}}
    rule = draw.choice(("stop", "use_background", "ladder"))
    with ground.drill() as drill:
        result = drill.run(ONE, f"on_failed_analysis={rule}", sabotage=broken)
        if rule != "stop":
            return _background_stands_in(ground, drill, result)
        nothing = set(drill.hashes()) <= {stamp_of(0)}
        if result.code != 70 or "Traceback" in result.output or not nothing:
            return Outcome(False, not nothing, told=f"{broken}: code {result.code}: {result.end}")
        return judged(drill, drill.run(), ground.undisturbed)  # with the scheme repaired


def _background_stands_in(ground: Ground, drill: tiny.Drill, result: tiny.Result) -> Outcome:
    found, first = drill.hashes(), stamp_of(1)
    background = ground.undisturbed[first]["background.nc"]
    is_background = first in found and found[first]["background.nc"] == background == found[first]["analysis.nc"]
    with netCDF4.Dataset(drill.store().cycle_folder(tiny.CYCLES[0]) / "analysis.nc") as file:
        is_labelled = bool(file.cycler_degraded) and file.cycler_fallback == "unguided" and "FAILED" in file.title
    is_right = result.code == 3 and is_background and is_labelled and not drill.store().verify()
    told = "" if is_right else f"code {result.code}, background {is_background}, labelled {is_labelled}"
    return Outcome(is_right, not (is_background and is_labelled), told=told)


def outliers(ground: Ground, draw: random.Random) -> Outcome:
    """One observation, or one in twenty, is off by 20 to 60 errors: the run is the one without them."""
    with ground.drill() as drill, ground.drill() as without:
        batch = damage.rows(drill.obs_file(), ground.layout)
        count = draw.choice((1, max(1, len(batch) // 20)))
        chosen = torch.zeros(len(batch), dtype=torch.bool)
        chosen[draw.sample(range(len(batch)), count)] = True
        off = np.array([draw.choice((-1.0, 1.0)) * draw.uniform(20.0, 60.0) for _ in range(count)])
        values = batch.values[chosen].numpy() + off * batch.error[chosen].numpy()
        damage.set_values(drill.obs_file(), ground.layout, chosen, values)
        damage.keep(without.obs_file(), ground.layout, ~chosen)
        expected = without.run(ONE)
        if expected.code != 0:
            return Outcome(False, told=f"the run without them ended with {expected.code}")
        return judged(drill, drill.run(ONE), without.hashes())


def short_of_memory(ground: Ground, draw: random.Random) -> Outcome:
    """The process gets no more memory at some point: it ends or is ended; with memory the same command goes on."""
    with ground.drill() as drill:
        ended = drill.run(memory_limit=draw.randrange(MOST_MEMORY), kill_after=PATIENCE)
        wrong = not is_subset(drill, ground.undisturbed) or bool(drill.store().verify())
        before = set(drill.hashes())
        found = judged(drill, drill.run(), ground.undisturbed, told=f"after {ended.code}: {ended.end}")
        return Outcome(found.recovered, found.wrong or wrong, 1, len(before - set(drill.hashes())), found.told)


def nothing_is_drawn(ground: Ground, draw: random.Random) -> Outcome:
    """Maps, the page or both fail: all fields are published, what is missing is said, a later run makes the page."""
    broken = draw.choice((("figures",), ("page",), ("figures", "page")))
    with ground.drill() as drill:
        maps = "plots=true" if "figures" in broken else "plots=false"
        result = drill.run(maps, sabotage={way: {} for way in broken})
        found = judged(drill, result, ground.undisturbed, code=3)
        reasons = [drill.summary(time)["degraded"] for time in tiny.TIMES]
        is_said = all(("plots are missing" in " ".join(one)) == ("figures" in broken) for one in reasons)
        again = drill.run(maps)
        has_page = (drill.store().experiment_folder / "index.html").is_file()
        is_right = found.recovered and is_said and again.code in (0, 3) and has_page
        told = "" if is_right else f"{broken}: {found.told} said {is_said}, page {has_page}, then {again.code}"
        return Outcome(is_right, found.wrong, told=told)
