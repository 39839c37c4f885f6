"""The cycle being made: where it stands, and what a stage may read.

Everything a stage reads comes from the store or from files of the work folder that an earlier stage wrote,
never from that stage's memory; so a cycle that was killed and continued is the cycle that was not.
Ensembles are handed out in the control variable, observations in physical units.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.torch import load_file

from cycler_da.cycle.error_factors import error_factors, tuned
from cycler_da.cycle.trailing_window import trailing_window
from cycler_da.ensemble import Ensemble, append_times
from cycler_da.errors import MissingProduct, PreviousReplaced
from cycler_da.executor import Executor
from cycler_da.noise import Noise
from cycler_da.obs.base import ObsBatch, Observations
from cycler_da.obs.files import read_obs_file
from cycler_da.obs.qc import quality_control
from cycler_da.obs.qc_stream import SET_ASIDE
from cycler_da.products.conventions import FileFacts
from cycler_da.products.dataset import read_ensemble, write_ensemble
from cycler_da.products.manifest import PreviousCycle
from cycler_da.products.provenance import code_version
from cycler_da.products.store import CycleLock, Store
from cycler_da.schemes.window.hx import window_hx
from cycler_da.setting import Chain, Setting, Stream
from cycler_da.times import parse_time, time_stamp
from cycler_da.verification.window import CycleCalibration, usual

if TYPE_CHECKING:
    from torch import Tensor

    from cycler_da.nature import Nature


#: Ending of the file with the frames of a window before its end.
FRAMES = "_window.nc"

#: What a stage says about itself (JSON-ready).
Facts = dict[str, Any]


@dataclass
class CycleWork:
    """One cycle of one chain, its lock held."""

    setting: Setting
    chain: Chain
    time: np.datetime64
    store: Store
    lock: CycleLock
    executor: Executor
    nature: Nature | None
    replaces: bool = False  # a forced run or a final pass: the complete cycle becomes a revision
    is_final_pass: bool = False  # what the early pass used stands in for what can no longer be read
    delivery: str = "final"  # which pass begins now: "early" where late files may still be taken in
    is_cold_start: bool = False  # the cycle begins anew, whatever there is before it
    _checked: tuple[tuple[Any, ...], Observations] | None = field(default=None, init=False, repr=False)
    _kept: dict[str, tuple[tuple[Any, ...], Ensemble]] = field(default_factory=dict, init=False, repr=False)

    @property
    def folder(self) -> Path:
        """The private work folder."""
        return self.store.work_folder(self.time)

    @property
    def is_start(self) -> bool:
        """True for the first time of the chain, which has neither background nor observations."""
        return self.previous_time is None

    @cached_property
    def previous_time(self) -> np.datetime64 | None:
        """Time of the cycle before; None at the start and at a cold start."""
        return None if self.is_cold_start else self.setting.previous_time(self.time)

    @cached_property
    def parent(self) -> PreviousCycle | None:
        """The publication of the cycle before from which this one is made, as it was when the first stage asked."""
        return None if self.previous_time is None else self.store.link_to(self.previous_time)

    def require_same_parent(self) -> None:
        """Raise PreviousReplaced when another run has made the cycle before again meanwhile."""
        if self.previous_time is not None and self.store.link_to(self.previous_time) != self.parent:
            raise PreviousReplaced(
                f"cycle {time_stamp(self.time)}: {time_stamp(self.previous_time)} was made again by another run "
                "meanwhile; nothing is published, the same command makes the cycle from the new one"
            )

    @cached_property
    def noise(self) -> Noise:
        """The cycle's noise; the same for all chains, so that schemes are compared on common draws."""
        return Noise.of_cycle(self.setting.config.seed, self.time)

    @cached_property
    def key(self) -> str:
        """What the stages of this cycle depend on: config, code, model and the published cycle before."""
        link = "" if self.parent is None else self.parent.manifest_sha256
        parts = [self.setting.config.digest, code_version(), self.chain.name, self.chain.model.digest, link]
        parts += [self.chain.covariance_digest] if self.chain.covariance_digest else []
        return hashlib.sha256("|".join([*parts, time_stamp(self.time)]).encode()).hexdigest()[:16]

    @property
    def weights(self) -> dict[str, str]:
        """Digests of what was learned or measured beforehand, as the manifest names them."""
        covariance = self.chain.covariance_digest
        return {"model": self.chain.model.digest} | ({"covariance": covariance} if covariance else {})

    def facts(self, kind: str, *, reference_time: np.datetime64 | None = None, **attributes: Any) -> FileFacts:
        """What every file of this cycle says about itself."""
        config = self.setting.config
        common = {
            "config_sha256": config.digest,
            "code_version": code_version(),
            "seed": config.seed,
            "model_digest": self.chain.model.digest,
            "covariance_digest": self.chain.covariance_digest or None,
            "n_members": self.chain.members,
        }
        reference = self.time if reference_time is None else reference_time
        return FileFacts(
            kind, reference, config.name, self.chain.name, self.chain.scheme_kind, {**common, **attributes}
        )

    # Ensembles, in the control variable

    def previous(self) -> Ensemble:
        """The analysis from which the background started, with the frames that the model reads; files are verified."""
        if self.previous_time is None:
            raise MissingProduct(
                f"cycle {time_stamp(self.time)} is the first of its chain and has no previous analysis"
            )
        return self.frames_until(self.start_time())

    def frames_until(self, last: np.datetime64) -> Ensemble:
        """Analyses up to a time, as many as the model reads; raises MissingProduct when one is damaged."""
        time: np.datetime64 | None = last
        frames: Ensemble | None = None
        while time is not None and (frames is None or len(frames.valid_times) < self.chain.model.history):
            earlier = read_ensemble(self.store.product(time, "analysis.nc"), layout=self.setting.layout)
            frames = earlier if frames is None else append_times(earlier, frames)
            time = self.before(time)
        assert frames is not None
        return self.setting.control.to_control(frames)

    def before(self, time: np.datetime64) -> np.datetime64 | None:
        """The cycle that a published one was made from; None for one that began anew."""
        return None if self.began_anew(time) else self.setting.previous_time(time)

    def began_anew(self, time: np.datetime64) -> bool:
        """Whether a published cycle is a start or a cold start; raises MissingProduct where there is none."""
        return self.store.manifest(time)["inputs"]["previous_manifest"] is None

    def start_time(self) -> np.datetime64:
        """Time of the analysis from which the background started: the cycle before, unless that was damaged."""
        return parse_time(self.done_facts("background")["start"])

    def times(self) -> np.ndarray:
        """The times that a forecast is kept for, the valid time last."""
        return self.setting.frame_times(self.time)

    def background(self) -> Ensemble:
        """The forecast valid now, as it stands in background.nc, with the frames of the window before it."""
        return self._read("background")

    def analysis(self) -> Ensemble:
        """The analysis, as it stands in analysis.nc, with the frames of the window before it."""
        return self._read("analysis")

    def frames_of_window(self, analysed: Ensemble) -> Ensemble:
        """The part of an analysis that is kept: the frames of the window, or its end alone."""
        return analysed if len(self.times()) > 1 else analysed.at_latest()

    def write_frames(self, name: str, ensemble: Ensemble, facts: FileFacts) -> None:
        """Write an ensemble in physical units: its last time as `name`.nc, frames before it as `name`_window.nc."""
        earlier = ensemble.before_latest()
        if earlier is not None:
            write_ensemble(self.folder / f"{name}{FRAMES}", earlier, facts=facts)
        write_ensemble(self.folder / f"{name}.nc", ensemble.at_latest(), facts=facts)

    def carry(self) -> Mapping[str, Tensor]:
        """What the scheme left for this cycle."""
        if self.previous_time is None:
            return {}
        start = self.start_time()
        if "carry.safetensors" not in self.store.manifest(start)["files"]:
            return {}
        return load_file(self.store.product(start, "carry.safetensors"))

    # Observations, in physical units

    def reported(self) -> Observations:
        """All observations of the copied files, as they arrived."""
        return self._collect([batch for stream in self.setting.streams for batch in self._arrived(stream)])

    def observations(self) -> Observations:
        """The same with the errors that this cycle uses."""
        return tuned(self.reported(), self.error_factors, self.setting.control)

    @cached_property
    def error_factors(self) -> dict[str, float]:
        """Factors of observation errors by stream/variable; empty where none are tuned."""
        tuning = {stream.name: stream.tuning for stream in self.setting.streams if stream.tuning is not None}
        return error_factors(self.window, tuning)

    def checked(self) -> Observations:
        """The same observations after quality control, each stream with its own settings.

        Four stages ask for them: they are remembered for as long as the files they follow from are the same ones.
        """
        files = self._files_of_checked()
        if self._checked is None or self._checked[0] != files:
            self._checked = (files, self._check())
        return self._checked[1]

    def _check(self) -> Observations:
        arrived = self.observations()
        background = self.setting.control.from_control(self.background())
        return quality_control(
            arrived,
            window_hx(background, arrived),
            window=self.setting.window(self.time),
            settings={stream.name: stream.qc for stream in self.setting.streams},
            noise=self.noise,
            usual=usual([cycle.deviation for cycle in self.window]),
        )

    def set_aside(self, checked: Observations) -> dict[str, str]:
        """Streams that quality control rejected as a whole, with the reason."""
        found = ((b.stream, r) for b in checked.batches for r in b.reasons if r.startswith(SET_ASIDE))
        return dict(found)

    @property
    def window(self) -> tuple[CycleCalibration, ...]:
        """The trailing window of calibration up to the cycle before; empty where there is none yet."""
        return self.trailing_window[0]

    @cached_property
    def trailing_window(self) -> tuple[tuple[CycleCalibration, ...], str]:
        """The same with what is wrong with it, "" where nothing is."""
        return trailing_window(self)

    def obs_file(self, stream: Stream) -> Path:
        """Where the copy of a stream's file is, or would be."""
        return self.folder / "obs" / f"in.{stream.name}.nc"

    # Stage facts

    def done_facts(self, stage: str) -> dict[str, Any]:
        """Facts of a finished stage; raises MissingProduct when one of its files is not what it wrote."""
        if self.store.stage_is_done(self.time, stage, key=self.key):
            return self.store.stage_facts(self.time, stage)
        raise MissingProduct(
            f"cycle {time_stamp(self.time)}: what stage {stage} wrote in {self.folder} is absent or damaged; nothing "
            "is published; check the disk, then run the same command again"
        )

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a small JSON file of the cycle."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")

    def _read(self, name: str) -> Ensemble:
        """An ensemble of the work folder, remembered for as long as its files are the same ones."""
        files = tuple(identity(self.folder / file) for file in (f"{name}.nc", f"{name}{FRAMES}"))
        if name not in self._kept or self._kept[name][0] != files:
            self._kept.pop(name, None)  # before the next one is read: never two of them
            self._kept[name] = (files, self._read_files(name))
        return self._kept[name][1]

    def _read_files(self, name: str) -> Ensemble:
        stored = read_ensemble(self.folder / f"{name}.nc", layout=self.setting.layout)
        frames = self.folder / f"{name}{FRAMES}"
        if frames.is_file():
            stored = append_times(read_ensemble(frames, layout=self.setting.layout), stored)
        return self.setting.control.to_control(stored)

    def _files_of_checked(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Which files quality control reads: inode, time of change and size of each, None for one that is absent."""
        background = [self.folder / name for name in ("background.nc", f"background{FRAMES}")]
        return tuple(identity(path) for path in (*background, *map(self.obs_file, self.setting.streams)))

    def _arrived(self, stream: Stream) -> list[ObsBatch]:
        path = self.obs_file(stream)
        if not path.is_file():
            return []
        return read_obs_file(path, self.setting.layout, stream=stream.name, operators=stream.operators)

    def _collect(self, batches: list[ObsBatch]) -> Observations:
        return Observations(tuple(batches), self.setting.layout)


def identity(path: Path) -> tuple[int, int, int] | None:
    """Inode, time of change (ns) and size of a file; None where there is none."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    return facts.st_ino, facts.st_mtime_ns, facts.st_size


def nonzero(counts: Mapping[str, int]) -> dict[str, int]:
    """The counts that are not zero."""
    return {name: count for name, count in counts.items() if count}
