"""Calibration of the background-error covariance B of an experiment: samples of forecast errors, statistics, a file.

errors   x_f - truth: the mean of the background ensemble against the nature run
nmc      (x_f(2 lead) - x_f(lead)) / sqrt(2), two forecasts valid at the same time: needs no truth, measures what the
         forecasts disagree in, and its amplitude is to be tuned (`factor`, `adapt` of var3d)
With a chain, samples are of its published cycles after the spin-up: their backgrounds (errors), or forecasts from the
first members of their analyses (nmc). Without one, forecasts start from the experiment's own kind of start at every
cycle time, which knows less than a cycled analysis: good enough to begin with.
Sources: Parrish and Derber (1992), Mon. Wea. Rev. 120 (nmc); Ingleby (2001), Q. J. R. Meteorol. Soc. 127.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from cycler_da.config import ChainBlock, ExperimentConfig
from cycler_da.ensemble import Ensemble, append_times
from cycler_da.errors import ConfigError, MissingProduct
from cycler_da.generative.background_error import default_shape, estimate, require_shape
from cycler_da.nature import Nature
from cycler_da.noise import Noise
from cycler_da.plots.covariance import plot_covariance
from cycler_da.preparation import open_or_make_nature
from cycler_da.products.conventions import FileFacts
from cycler_da.products.covariance_file import write_covariance
from cycler_da.products.dataset import read_ensemble
from cycler_da.products.store import Store
from cycler_da.setting import Chain, Setting, build_setting
from cycler_da.start import StartRequest
from cycler_da.times import format_duration, parse_duration, time_stamp

if TYPE_CHECKING:
    from torch import Tensor

METHODS = ("errors", "nmc")


@dataclass(frozen=True)
class CalibrationJob:
    """What to estimate B from; raises ConfigError for an unknown method."""

    output: Path
    method: str = "errors"
    chain: str | None = None  # whose published cycles are used; None: forecasts from the experiment's start
    lead: str | None = None  # None: one cycle
    shape: str | None = None  # None: isotropic on a torus, local elsewhere
    members: int = 4  # of every start or analysis that forecasts begin from

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"calibrate-b: unknown method {self.method!r}; valid: {', '.join(METHODS)}")
        if self.lead is not None and self.chain is not None and self.method == "errors":
            raise ConfigError(
                f"calibrate-b: lead is {self.lead}, but errors of a chain are those of its backgrounds; leave --lead "
                "out, or use method nmc"
            )
        if self.members < 2:
            raise ConfigError(f"calibrate-b: members is {self.members}; expected 2 or more")


@dataclass(frozen=True)
class Calibration:
    """The parts that samples are made with; states are in the control variable."""

    setting: Setting
    chain: Chain
    store: Store | None
    nature: Nature | None
    lead: np.timedelta64
    members: int

    def errors(self) -> Iterator[tuple[np.datetime64, Tensor]]:
        """Valid time and error of the background mean, `(1, channel, *space)`."""
        # A chain's backgrounds are there; without one they are forecast from a start one lead before.
        for time in self._times(begins=(0,) if self.store is not None else (1,)):
            background = self._forecast(time, self.lead) if self.store is None else self._read(time, "background.nc")
            yield time, background.latest.to(torch.float64).mean(dim=0, keepdim=True) - self._truth(time)

    def nmc(self) -> Iterator[tuple[np.datetime64, Tensor]]:
        """Valid time and differences of two forecasts over sqrt(2), `(member, channel, *space)`."""
        for time in self._times(begins=(1, 2)):
            longer, shorter = (self._forecast(time, n * self.lead).latest.to(torch.float64) for n in (2, 1))
            yield time, (longer - shorter) / 2**0.5

    def _times(self, *, begins: tuple[int, ...]) -> list[np.datetime64]:
        """Cycle times for which there is a start, or a published cycle, so many leads before."""
        times = self.setting.valid_times
        if self.store is None:
            return [time for time in times if time - max(begins) * self.lead >= times[0]]
        complete = set(self.store.complete_cycles())
        counted = times[1 + self.setting.config.verification.spin_up :]
        return [time for time in counted if all(time - n * self.lead in complete for n in begins)]

    def _forecast(self, time: np.datetime64, lead: np.timedelta64) -> Ensemble:
        """Forecast to a time from a start or an analysis `lead` before."""
        begin = time - lead
        start = self._start(begin) if self.store is None else self._analysis(begin)
        noise = Noise.of_cycle(self.setting.config.seed, begin)
        with torch.inference_mode():
            return self.chain.model.forecast(start, np.array([time]), noise=noise)

    def _start(self, time: np.datetime64) -> Ensemble:
        request = StartRequest(
            time=time,
            members=self.members,
            history=self.chain.model.history,
            control=self.setting.control,
            noise=Noise.of_cycle(self.setting.config.seed, time),
            nature=self.nature,
            climatology=self.setting.climatology,
            model=self.chain.model,
        )
        return self.setting.start.ensemble(request)

    def _analysis(self, time: np.datetime64) -> Ensemble:
        """The first members of an analysis, with the frames that the model reads."""
        frames = self._read(time, "analysis.nc")
        while len(frames.valid_times) < self.chain.model.history:
            earlier = self._read(frames.valid_times[0] - self.setting.layout.step, "analysis.nc")
            frames = append_times(earlier, frames)
        return frames.select(slice(self.members))

    def _read(self, time: np.datetime64, name: str) -> Ensemble:
        assert self.store is not None
        return self.setting.control.to_control(
            read_ensemble(self.store.product(time, name), layout=self.setting.layout)
        )

    def _truth(self, time: np.datetime64) -> Tensor:
        if self.nature is None:
            raise ConfigError("calibrate-b: method errors needs a nature run; add a nature block, or use method nmc")
        physical = Ensemble(self.nature.states(np.array([time]))[None], np.array([time]), (0,), self.setting.layout)
        return self.setting.control.to_control(physical).latest.to(torch.float64)


def calibrate_b(
    config: ExperimentConfig, job: CalibrationJob, *, say: Callable[[str], None] = lambda text: None
) -> list[str]:
    """Estimate B, write its file and, beside it, a picture; returns lines that say what was found.

    Raises CyclerError; then no file is written.
    """
    parts = _parts(config, job, say)
    layout = parts.setting.control.layout
    shape = job.shape or default_shape(layout)
    require_shape(layout, shape)
    samples = list(parts.errors() if job.method == "errors" else parts.nmc())
    times = np.array([time for time, _ in samples], dtype="datetime64[s]")
    if not len(times):
        raise MissingProduct(
            f"calibrate-b: no cycle of {config.name} gives a sample with method {job.method} and lead "
            f"{format_duration(parts.lead)}; run the chain first, lower verification.spin_up, or shorten the lead"
        )
    fields = torch.cat([field for _, field in samples])
    say(f"{len(fields)} samples of {len(times)} valid times")
    error = estimate(fields, layout, shape=shape)
    write_covariance(job.output, error, layout, valid_times=times, facts=_facts(parts, job, times))
    picture = plot_covariance(job.output, job.output.with_suffix(".png"))
    return [f"{job.output}: B of {config.name}, shape {shape}, {len(fields)} samples", str(picture)]


def _parts(config: ExperimentConfig, job: CalibrationJob, say: Callable[[str], None]) -> Calibration:
    names = [chain.name for chain in config.chains]
    if job.chain is not None and job.chain not in names:
        raise ConfigError(f"calibrate-b: no chain {job.chain!r} in {config.name}; valid: {', '.join(names)}")
    # The schemes of the chains may need the very file that is to be made.
    chains = [chain.model_copy(update={"scheme": {"kind": "free_run"}}) for chain in config.chains]
    chains.append(ChainBlock(name="calibration", scheme={"kind": "free_run"}))
    setting = build_setting(config.model_copy(update={"chains": chains}))
    lead = setting.valid_times[1] - setting.valid_times[0] if job.lead is None else parse_duration(job.lead)
    if lead <= np.timedelta64(0, "s") or lead % setting.layout.step:
        raise ConfigError(
            f"calibrate-b: lead is {format_duration(lead)}; expected a whole number of model steps of "
            f"{format_duration(setting.layout.step)}"
        )
    store = None if job.chain is None else Store(setting.root, config.name, job.chain)
    if store is not None and not store.complete_cycles():
        raise MissingProduct(f"calibrate-b: chain {job.chain} of {config.name} has no complete cycle; run it first")
    needs_nature = store is None or job.method == "errors"
    nature = open_or_make_nature(setting, say) if needs_nature else None
    return Calibration(setting, setting.chain(job.chain or "calibration"), store, nature, lead, job.members)


def _facts(parts: Calibration, job: CalibrationJob, times: np.ndarray) -> FileFacts:
    config = parts.setting.config
    attributes = {
        "method": job.method,
        "lead": format_duration(parts.lead),
        "seed": config.seed,
        "config_sha256": config.digest,
        "model_digest": parts.chain.model.digest,
        "samples_of": job.chain or "forecasts from the experiment's start",
        "first_sample": time_stamp(times[0]),
    }
    return FileFacts("covariance", times[-1], config.name, job.chain or "", "", attributes)
