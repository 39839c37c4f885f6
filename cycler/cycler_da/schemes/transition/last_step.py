"""The members one model step before an analysis: where a filter of a learned transition begins.

A window may be longer than one step of the model. The steps up to the last one are forecast again with the keyed noise
they had when the background was made, so that they are the states the background passed through. So is noise that
enters before the last step (`generative.kicks`); it is moved with its member from then on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.errors import AnalysisFailed
from cycler_da.forecast import InterpolantForecast
from cycler_da.forecast.base import ForecastModel, model_steps
from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.prediction import MEMBERS_AT_ONCE
from cycler_da.noise import Noise
from cycler_da.schemes.base import Prior
from cycler_da.schemes.transition.additive_noise import as_transition

if TYPE_CHECKING:
    from torch import Tensor


def last_step(prior: Prior, noise: Noise, *, scheme: str) -> tuple[InterpolantForecast, Tensor]:
    """The transition and the members' frames one model step before the analysis time, ready to be predicted from.

    Raises AnalysisFailed, naming the scheme, without a previous analysis or a model with a transition.
    """
    model, start = as_transition(prior.model), prior.previous
    if start is None or model is None or prior.model is None:
        raise AnalysisFailed(
            f"{scheme}: needs the previous analysis and a learned forecast model (or a numerical one with noise); got "
            "neither or one"
        )
    n_steps = model_steps(start.valid_time, np.array([prior.background.valid_time]), model.layout.step)[0]
    frames = start.values
    if n_steps > 1:
        between = start.valid_time + model.layout.step * np.arange(1, n_steps)
        frames = torch.cat([frames, _forecast(prior.model, start, between, noise).values], dim=1)
    return model, model.kicked(frames, noise, start.members, n_steps)


def last_draw(prior: Prior, model: InterpolantForecast, noise: Noise, *, device: torch.device) -> MemberNoise:
    """The noise with which the background's last step was drawn.

    A guided draw that begins with it leaves the background where observations say nothing: what changes there is what
    the members' frames changed.
    """
    start, background = prior.previous, prior.background
    assert start is not None  # `last_step` saw to it
    steps = model_steps(start.valid_time, np.array([background.valid_time]), model.layout.step)
    return MemberNoise(noise, background.members, f"forecast.{steps[0]}", device=device)


def _forecast(model: ForecastModel, start: Ensemble, times: np.ndarray, noise: Noise) -> Ensemble:
    """The forecast again, with the noise it had when the background was made, in the same batches."""
    batches = [slice(i, i + MEMBERS_AT_ONCE) for i in range(0, start.n_members, MEMBERS_AT_ONCE)]
    parts = [model.forecast(start.select(batch), times, noise=noise) for batch in batches]
    return replace(parts[0], values=torch.cat([part.values for part in parts]), members=start.members)
