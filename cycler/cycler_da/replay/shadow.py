"""A shadow of one archived cycle: a store of its own in a scratch folder, where the cycle can be made again.

The shadow holds links to the cycles before it and copies of the observation files that the cycle read, so that
the stages of `cycle` run on it as they did the first time, and nothing of the archive can be written. The cycle
before is found by the hash that the manifest names, among the published cycles and their revisions.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cycler_da.config import load_config
from cycler_da.cycle import CycleWork
from cycler_da.errors import ConfigError, MissingInput, MissingProduct
from cycler_da.executor import Executor
from cycler_da.nature import Nature
from cycler_da.products.manifest import MANIFEST, read_manifest
from cycler_da.products.provenance import sha256_file
from cycler_da.products.store import Store
from cycler_da.setting import Setting, load_setting
from cycler_da.times import parse_duration, parse_time, time_stamp

CONFIG = "experiment.yaml"


@dataclass(frozen=True)
class ArchivedCycle:
    """A published cycle of one chain of an experiment folder `<root>/<name>`."""

    experiment: Path
    chain: str
    time: np.datetime64

    @property
    def store(self) -> Store:
        """The store that holds it."""
        return Store(self.experiment.parent, self.experiment.name, self.chain)

    @property
    def folder(self) -> Path:
        """Its folder."""
        return self.store.cycle_folder(self.time)

    @property
    def name(self) -> str:
        """Chain and stamp, for messages."""
        return f"{self.chain}/{time_stamp(self.time)}"

    def manifest(self) -> dict[str, Any]:
        """Its manifest; raises MissingProduct when it is not complete."""
        return self.store.manifest(self.time)


def find_cycle(experiment: Path, cycle: str, chain: str | None = None) -> ArchivedCycle:
    """Find a cycle by its stamp or time, or `latest`; without `chain` the experiment must have one chain.

    Raises MissingInput when the folder is no experiment, ConfigError for an unknown or ambiguous chain,
    MissingProduct when the cycle is not complete.
    """
    experiment = Path(experiment).resolve()
    names = chains_of(experiment)
    if chain is None and len(names) > 1:
        raise ConfigError(f"{experiment} has several chains; choose one with --chain: {', '.join(names)}")
    if chain is not None and chain not in names:
        raise ConfigError(f"no chain {chain!r} in {experiment}; valid: {', '.join(names)}")
    store = Store(experiment.parent, experiment.name, chain or names[0])
    time = store.latest() if cycle == "latest" else parse_time(cycle)
    if time is None:
        raise MissingProduct(f"{store.chain_folder} has no complete cycle; run the experiment first")
    store.manifest(time)
    return ArchivedCycle(experiment, store.chain, time)


def chains_of(experiment: Path) -> list[str]:
    """Names of the chains of an experiment folder; raises MissingInput when it is none."""
    names = sorted(path.parent.name for path in Path(experiment).glob("*/cycles") if path.is_dir())
    if not names or not (Path(experiment) / CONFIG).is_file():
        raise MissingInput(f"{experiment} is no experiment with cycles; give the folder <root>/<name> of a run")
    return names


def sample_cycles(experiment: Path, chain: str | None, *, count: int, seed: int) -> list[ArchivedCycle]:
    """Draw complete cycles of one chain or all, at most as many as there are; errors as in `find_cycle`."""
    experiment = Path(experiment).resolve()
    names = chains_of(experiment)
    if chain is not None and chain not in names:
        raise ConfigError(f"no chain {chain!r} in {experiment}; valid: {', '.join(names)}")
    every = [
        ArchivedCycle(experiment, name, time)
        for name in names
        if chain in (None, name)
        for time in Store(experiment.parent, experiment.name, name).complete_cycles()
    ]
    order = np.random.default_rng(seed).permutation(len(every))[:count]
    return [every[i] for i in sorted(order.tolist())]


@contextmanager
def shadow_work(archived: ArchivedCycle, scratch: Path) -> Iterator[CycleWork]:
    """The cycle as work to be done, in a store below `scratch` (an empty folder).

    Raises MissingProduct when a cycle before it, or a file of it, is absent or damaged, ConfigError and
    WeightsMismatch when the stored config cannot be built any more.
    """
    torch.set_num_threads(1)  # as in every run: the bytes of a member must not depend on the threads
    setting = _setting(archived, scratch)
    shadow = Store(scratch, archived.experiment.name, archived.chain)
    manifest = archived.manifest()
    _link_earlier(archived, manifest, shadow, _history(setting, archived))
    _copy_observations(archived, manifest, setting)
    begins = manifest["inputs"]["previous_manifest"] is None
    nature: Nature | None = None
    if begins and setting.nature is not None:  # only a start is made from it
        nature = setting.nature.build()  # type: ignore[attr-defined]
    executor: Executor = setting.executor.build()  # type: ignore[attr-defined]
    with shadow.lock(archived.time) as lock, executor:
        yield CycleWork(
            setting,
            setting.chain(archived.chain),
            archived.time,
            shadow,
            lock,
            executor,
            nature,
            is_cold_start=begins and setting.previous_time(archived.time) is not None,
        )


def _setting(archived: ArchivedCycle, scratch: Path) -> Setting:
    path = archived.experiment / CONFIG
    config = load_config(path)
    start, every = parse_time(config.cycles.start), parse_duration(config.cycles.every)
    count = (archived.time - start) / every
    if count < 0 or not float(count).is_integer():
        raise ConfigError(f"{path} has no cycle at {time_stamp(archived.time)}; it was changed since, put it back")
    changes = [f"root={scratch}", f"cycles.count={max(config.cycles.count, int(count))}"]
    changes += [f"observations.{block.stream}.folder={scratch / 'observations'}" for block in config.observations]
    return load_setting(path, changes)


def _history(setting: Setting, archived: ArchivedCycle) -> int:
    """How many cycles back the cycle reads."""
    return max(1, setting.chain(archived.chain).model.history)


def _link_earlier(archived: ArchivedCycle, manifest: Mapping[str, Any], shadow: Store, count: int) -> None:
    cycles = shadow.chain_folder / "cycles"
    cycles.mkdir(parents=True)
    link = manifest["inputs"]["previous_manifest"]
    for _ in range(count):
        if link is None:
            return
        source = _published_as(archived.store, link)
        (cycles / link["cycle"]).symlink_to(source, target_is_directory=True)
        link = read_manifest(source)["inputs"]["previous_manifest"]


def _published_as(store: Store, link: Mapping[str, str]) -> Path:
    """Folder of the publication that a manifest names: the present one, or a revision that followed it."""
    folders = [store.chain_folder / "cycles" / link["cycle"], *store.revisions(parse_time(link["cycle"]))]
    for folder in folders:
        if (folder / MANIFEST).is_file() and sha256_file(folder / MANIFEST) == link["sha256"]:
            return folder
    raise MissingProduct(
        f"cycle {link['cycle']} of {store.chain_folder}, from which the next one was made (manifest sha256 "
        f"{link['sha256'][:12]}), is neither in cycles/ nor in revisions/; restore it from a copy"
    )


def _copy_observations(archived: ArchivedCycle, manifest: Mapping[str, Any], setting: Setting) -> None:
    stamp = time_stamp(archived.time)
    for stream in setting.streams:
        stream.folder.mkdir(parents=True, exist_ok=True)
        if stream.name in manifest["inputs"]["observations"]:
            copy = archived.store.product(archived.time, f"obs/in.{stream.name}.nc")
            shutil.copyfile(copy, stream.folder / f"{stream.name}_{stamp}.nc")
