"""Drills of what arrives: observation files that are broken, bad, doubled, late or lie about themselves."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from cycler_da.drills import damage
from cycler_da.drills import system as tiny
from cycler_da.drills.trials import Ground, Outcome, judged, stamp_of
from cycler_da.obs.base import ObsBatch

ONE = "cycles.count=1"


def broken_file(ground: Ground, draw: random.Random) -> Outcome:
    """A file of random bytes, cut short at a random place, empty, of another grid, unit or variable."""
    ways: list[Callable[[Path], object]] = [
        damage.fill_with_noise,
        lambda path: damage.truncate(path, fraction=draw.uniform(0.0, 0.99)),
        lambda path: path.write_bytes(draw.randbytes(draw.randint(0, 4096))),
        damage.put_on_another_grid,
        damage.rename_variable,
        lambda path: damage.claim_units(path, draw.choice(("day-1", "kg m-2", "m"))),
        lambda path: path.unlink(),
    ]
    with ground.drill() as drill:
        draw.choice(ways)(drill.obs_file())
        return judged(drill, drill.run(ONE), ground.without_insitu, code=3)


def flipped_bit(ground: Ground, draw: random.Random) -> Outcome:
    """One bit of an observation file flips: its stream is set aside, or the bit carried nothing."""
    with ground.drill() as drill:
        damage.flip_bit(drill.obs_file(), position=draw.random())
        result = drill.run(ONE)
        expected = ground.first(ground.undisturbed) if result.code == 0 else ground.without_insitu
        return judged(drill, result, expected, code=result.code if result.code in (0, 3) else 3)


def bad_values(ground: Ground, draw: random.Random) -> Outcome:
    """Some values are NaN, infinite, marks of missing ones or far off: the run is the one without them."""
    with ground.drill() as drill, ground.drill() as without:
        batch = damage.rows(drill.obs_file(), ground.layout)
        chosen = torch.zeros(len(batch), dtype=torch.bool)
        chosen[draw.sample(range(len(batch)), draw.randint(1, len(batch) // 4))] = True
        pairs = zip(batch.values[chosen].tolist(), batch.error[chosen].tolist(), strict=True)
        values = [_bad(draw, value, error) for value, error in pairs]
        damage.set_values(drill.obs_file(), ground.layout, chosen, np.array(values))
        damage.keep(without.obs_file(), ground.layout, ~chosen)
        expected = without.run(ONE)
        if expected.code != 0:
            return Outcome(False, told=f"the run without them ended with {expected.code}")
        return judged(drill, drill.run(ONE), without.hashes())


def _bad(draw: random.Random, value: float, error: float) -> float:
    way = draw.choice(("nan", "inf", "mark", "gross"))
    if way == "gross":
        return value + draw.choice((-1.0, 1.0)) * draw.uniform(400.0, 1000.0) * error
    return {"nan": float("nan"), "inf": float("inf"), "mark": draw.choice((-99.0, -999.0, 1e20))}[way]


def lying_file(ground: Ground, draw: random.Random) -> Outcome:
    """Metadata that lie: axes swapped, a factor of a unit, the sign; the stream is set aside as a whole."""
    ways: list[Callable[[ObsBatch], ObsBatch]] = [
        lambda batch: replace(batch, where=replace(batch.where, position=batch.where.position.flip(1))),
        lambda batch: replace(batch, values=batch.values * draw.choice((10.0, 100.0, 1000.0, 86400.0))),
        lambda batch: replace(batch, values=batch.values / draw.choice((10.0, 100.0, 1000.0, 86400.0))),
        lambda batch: replace(batch, values=-batch.values),
    ]
    with ground.drill() as drill:
        way = draw.choice(ways)
        damage.rewrite(drill.obs_file(), ground.layout, lambda batch: [way(batch)])
        return judged(drill, drill.run(ONE), ground.without_insitu, code=3)


def doubled(ground: Ground, draw: random.Random) -> Outcome:
    """Some or all observations come twice, in any order."""
    with ground.drill() as drill:

        def twice(batch: ObsBatch) -> list[ObsBatch]:
            mask = torch.tensor([draw.random() < draw.choice((0.2, 1.0)) for _ in range(len(batch))])
            return [batch, batch.select(mask)]

        damage.rewrite(drill.obs_file(), ground.layout, twice)
        return judged(drill, drill.run(ONE), ground.first(ground.undisturbed))


def another_time(ground: Ground, draw: random.Random) -> Outcome:
    """All observations of a cycle are of another day or year: the background is published, labelled."""
    days = draw.choice((-365, -30, -1, 1, 365))
    # A second less than a day before is inside the window, which such observations are for.
    by = np.timedelta64(days * 86400 + draw.choice((0, -1) if days == -1 else (0, 1, -1)), "s")
    with ground.drill() as drill:
        for stream in tiny.STREAMS:
            damage.shift_time(drill.obs_file(stream), ground.layout, by)
        return _background_stands(ground, drill, drill.run(ONE))


def nothing_arrives(ground: Ground, draw: random.Random) -> Outcome:
    """No files, empty files or broken files of both streams: the background is published, labelled."""
    with ground.drill() as drill:
        for stream in tiny.STREAMS:
            _remove_content(drill.obs_file(stream), ground, draw.choice(("gone", "empty", "no locations")))
        return _background_stands(ground, drill, drill.run(ONE))


def _remove_content(path: Path, ground: Ground, how: str) -> None:
    if how == "gone":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    else:
        damage.rewrite(path, ground.layout, lambda batch: [])


def _background_stands(ground: Ground, drill: tiny.Drill, result: tiny.Result) -> Outcome:
    found, expected = drill.hashes(), ground.undisturbed
    first = stamp_of(1)
    is_background = (
        set(found) == {stamp_of(0), first}
        and found[stamp_of(0)] == expected[stamp_of(0)]
        and found[first]["background.nc"] == expected[first]["background.nc"]
        and found[first]["analysis.nc"] == found[first]["background.nc"]
    )
    is_labelled = result.code == 4 and "no usable observations" in " ".join(drill.summary()["degraded"])
    wrong = first in found and not (is_background and is_labelled)
    told = "" if is_background and is_labelled else f"code {result.code}, background {is_background}"
    return Outcome(is_background and is_labelled and not drill.store().verify(), wrong, told=told)
