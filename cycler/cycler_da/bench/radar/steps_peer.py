"""STEPS of pysteps: an ensemble of advected cascades, as a peer beside the learned transition.

    motion      Lucas-Kanade of three frames
    forecast    six cascades of scales, autoregressive of order two, noise with the spectrum of the last frame, motion
                perturbed (Bowler et al. 2006, Q. J. R. Meteorol. Soc. 132), echo held by the incremental mask and to
                the distribution of the last frame: the defaults of pysteps (Pulkkinen et al. 2019, GMD 12, 4185)

pysteps is optional (`pip install 'cycler-da[peers]'`). It wants a logarithmic scale with one value where nothing falls:
codes are that. Fields are made wider by `MARGIN` cells of repeated edge and cut again, so that echo flows in as it does
in our advection; without it pysteps leaves the inflow missing.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from typing import TYPE_CHECKING

import numpy as np

from cycler_da.systems.sevir_codec import CODE_SPAN

if TYPE_CHECKING:
    from jaxtyping import Float

MARGIN = 32  # cells: an hour of the fastest echo
ECHO_CODE = 16.0


def is_installed() -> bool:
    """True when pysteps and what its motion needs (OpenCV) can be imported."""
    return all(importlib.util.find_spec(name) is not None for name in ("pysteps", "cv2"))


def steps_members(
    history: Float[np.ndarray, "time y x"],
    *,
    n_steps: int,
    n_members: int,
    step_minutes: float,
    cell_km: float,
    seed: int,
) -> Float[np.ndarray, "member step y x"]:
    """Forecast `n_steps` from three frames on the code scale v = code / 255."""
    with contextlib.redirect_stdout(io.StringIO()):  # it greets, and reports its settings
        from pysteps import motion, nowcasts

        codes = CODE_SPAN * history.astype(np.float64)
        codes = np.where(codes < ECHO_CODE, 0.0, codes)
        flow = motion.get_method("LK")(codes)
        wide = [(0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)]
        made = nowcasts.get_method("steps")(
            np.pad(codes, wide, mode="edge"),
            np.pad(flow, wide, mode="edge"),
            n_steps,
            n_ens_members=n_members,
            n_cascade_levels=6,
            precip_thr=ECHO_CODE,
            kmperpixel=cell_km,
            timestep=step_minutes,
            seed=seed,
        )
    inner = made[:, :, MARGIN:-MARGIN, MARGIN:-MARGIN]
    return np.nan_to_num(inner, nan=0.0).clip(0.0, CODE_SPAN - 1.0) / CODE_SPAN
