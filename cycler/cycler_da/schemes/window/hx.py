"""Model equivalents at the observations' own times, from the frames of a background inside the window.

For an observation at time t between the frames at t1 and t2 of a member,
    hx = (1 - a) H(x(t1)) + a H(x(t2)),   a = (t - t1) / (t2 - t1)
H(x) and not x is interpolated, so that fields are not mixed. Observations before the first frame or after the last one
take that frame. With one frame all are taken to be at its time, as three-dimensional schemes do.
An ensemble transform computed from such equivalents and applied to the last frame is the 4D-LETKF.
Source: Hunt et al. (2004), Tellus 56A, 273-277; Hunt, Kostelich and Szunyogh (2007), Physica D 230, section 3.

Frames inside the window: `cycles.frames` of an experiment, or a user's own ensemble file (`cycler assimilate`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.obs.base import ObsBatch, Observations

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def window_hx(ensemble: Ensemble, observations: Observations) -> Float[Tensor, "member obs"]:
    """Equivalents of all observations, float64; concatenated over batches in order."""
    if len(ensemble.valid_times) == 1 or not len(observations):
        return observations.hx(ensemble.latest.to(torch.float64))
    return torch.cat([_of_batch(ensemble, batch) for batch in observations.batches], dim=1)


def _of_batch(ensemble: Ensemble, batch: ObsBatch) -> Float[Tensor, "member obs"]:
    frames = ensemble.valid_times.astype("datetime64[s]")
    times = np.where(np.isnat(batch.times), frames[-1], batch.times.astype("datetime64[s]"))
    times = np.clip(times, frames[0], frames[-1])
    after = np.searchsorted(frames, times)  # the frame at or after the observation
    result = torch.empty((ensemble.n_members, len(batch)), dtype=torch.float64, device=ensemble.values.device)
    for i_frame in np.unique(after):
        is_here = after == i_frame
        some = batch.select(torch.from_numpy(is_here))
        part = _hx(ensemble, some, i_frame)
        if (times[is_here] != frames[i_frame]).any():
            length = frames[i_frame] - frames[i_frame - 1]
            share = torch.from_numpy((frames[i_frame] - times[is_here]) / length).to(part)  # of the frame before
            earlier = _hx(ensemble, some, i_frame - 1)
            part = torch.where(share == 0, part, share * earlier + (1 - share) * part)
        result[:, torch.from_numpy(np.flatnonzero(is_here)).to(result.device)] = part
    return result


def _hx(ensemble: Ensemble, batch: ObsBatch, i_frame: int) -> Float[Tensor, "member obs"]:
    return batch.hx(ensemble.values[:, i_frame].to(torch.float64), ensemble.layout).to(torch.float64)
