"""Replay: make an archived cycle again from what its manifest names, and compare it bit for bit.

The archive is verified first (`products.manifest.check_files`), so that a difference is never blamed on the wrong
side. Then all stages up to the products run in a shadow: forecast from the archived cycle before, quality
control and analysis of the archived observation files with the archived config. Noise is keyed, so on the same kind of
machine with the same code every value comes out as it was. Maps, scores and the summary are not made again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from cycler_da.cycle import CycleWork
from cycler_da.cycle.running import run_stage
from cycler_da.cycle.work import FRAMES
from cycler_da.products.manifest import array_hashes, check_files
from cycler_da.products.provenance import code_version
from cycler_da.replay.compare import differing_files, differing_origin
from cycler_da.replay.shadow import ArchivedCycle, shadow_work

#: Stages that make what is compared.
STAGES = ("background", "observations", "quality_control", "assimilate", "products")

_ENSEMBLES = ("background.nc", f"background{FRAMES}", "analysis.nc", f"analysis{FRAMES}")
_COMPARED = (*_ENSEMBLES, "increment.nc", "carry.safetensors", "diag/stats.json")


@dataclass(frozen=True)
class Replay:
    """What came of a replay; all three lists are empty when nothing is to be said."""

    name: str  # chain/stamp
    damaged: tuple[str, ...]  # the archive is not what was published
    differences: tuple[str, ...]  # values that came out otherwise
    origin: tuple[str, ...]  # code, libraries, config that are others than then
    n_members: int  # members whose values were compared, over all fields

    @property
    def is_same(self) -> bool:
        """True when the archive is whole and every value came out as it was."""
        return not self.damaged and not self.differences


def replay(archived: ArchivedCycle) -> Replay:
    """Make a cycle again and compare; raises what `shadow_work` raises, and what a stage raises."""
    manifest = archived.manifest()
    with TemporaryDirectory(prefix="cycler-replay-") as scratch, shadow_work(archived, Path(scratch)) as work:
        for stage in STAGES:
            run_stage(work, stage)
        names = [name for name in manifest["files"] if name in _COMPARED or name.startswith(("feedback/", "obs/"))]
        differences = [*differing_files(archived.folder, work.folder, names), *_other_members(manifest, work)]
        inputs = {"config": work.setting.config.digest, "code": code_version(), "weights": work.weights}
        inputs["other"] = {"stream_checks": work.setting.config.stream_checks}
    return Replay(
        name=archived.name,
        damaged=tuple(check_files(archived.folder, manifest)),
        differences=tuple(differences),
        origin=tuple(differing_origin(manifest, inputs)),
        n_members=sum(len(fields) for fields in _members(manifest["arrays"])),
    )


def _other_members(manifest: dict, work: CycleWork) -> list[str]:
    """Hashes that differ from the manifest; says again what `differing_files` says unless the archive is damaged."""
    lines = []
    for name, recorded in manifest["arrays"].items():
        if (work.folder / name).is_file() and array_hashes(work.folder / name) != recorded:
            lines.append(f"{name}: the hashes of its fields are not those of the manifest")
    return lines


def _members(arrays: dict) -> list[dict]:
    return [fields for file in arrays.values() for fields in file.values() if isinstance(fields, dict)]
