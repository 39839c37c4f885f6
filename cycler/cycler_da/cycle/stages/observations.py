"""Observations: copies of the window's files; what cannot be read is set aside with its reason."""

from __future__ import annotations

import logging

from cycler_da.cycle.work import CycleWork, Facts
from cycler_da.errors import MissingInput, ObsFileError
from cycler_da.obs.files import find_obs_file, read_obs_file
from cycler_da.products.provenance import sha256_file
from cycler_da.setting import Stream
from cycler_da.times import time_stamp

log = logging.getLogger(__name__)


def observations(work: CycleWork) -> Facts:
    """Copy the files of the window into the cycle; a file that cannot be read is set aside with its reason."""
    if work.is_start:
        return {"delivery": "final"}
    used, reasons = {}, []
    for stream in work.setting.streams:
        try:
            used[stream.name] = _take_file(work, stream)
        except (MissingInput, ObsFileError) as error:
            if _keep_early_copy(work, stream):
                used[stream.name] = sha256_file(work.obs_file(stream))
                reasons.append(f"stream {stream.name}: the copy of the early pass is used, for now {error}")
                continue
            if stream.is_required:
                raise
            reasons.append(f"stream {stream.name} is missing: {error}")
            log.warning("cycle=%s stream=%s set aside: %s", time_stamp(work.time), stream.name, error)
    return {"files": used, "degraded": reasons, "delivery": work.delivery}


def _take_file(work: CycleWork, stream: Stream) -> str:
    """Copy a stream's file, read it fully, and return its sha256; raises MissingInput or ObsFileError."""
    stamp = time_stamp(work.time)
    found = find_obs_file(stream.folder, stream.name, stamp)
    if found is None:
        raise MissingInput(f"no file {stream.name}_{stamp}.nc in {stream.folder}")
    try:
        content = found.read_bytes()
    except OSError as error:
        raise ObsFileError(
            f"observation file {found} cannot be read: {error}; check its kind, mode and disk"
        ) from error
    copy = work.obs_file(stream)
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(content)
    try:
        read_obs_file(copy, work.setting.layout, stream=stream.name, operators=stream.operators)
    except ObsFileError as error:
        copy.unlink()
        raise ObsFileError(str(error).replace(str(copy), str(found))) from error
    return sha256_file(copy)


def _keep_early_copy(work: CycleWork, stream: Stream) -> bool:
    """Copy what the early pass used of a stream; False when this is no final pass or it used nothing."""
    copy = work.obs_file(stream)
    name = copy.relative_to(work.folder).as_posix()
    if not work.is_final_pass or name not in work.store.manifest(work.time)["files"]:
        return False
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(work.store.product(work.time, name).read_bytes())
    return True
