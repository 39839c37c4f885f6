"""Observations: copies of the window's files; what cannot be read is set aside with its reason."""

from __future__ import annotations

import logging
from pathlib import Path

from cycler_da.cycle.work import CycleWork, Facts
from cycler_da.errors import MissingInput, ObsFileError
from cycler_da.obs.files import find_obs_file, read_obs_file
from cycler_da.products.provenance import sha256_file
from cycler_da.setting import Stream
from cycler_da.times import time_stamp
from cycler_da.trial_read import fatal_ends, read_bytes

log = logging.getLogger(__name__)


def observations(work: CycleWork) -> Facts:
    """Copy the files of the window into the cycle; a file that cannot be read is set aside with its reason."""
    if work.is_start:
        return {"delivery": "final"}
    used, reasons = {}, []
    wrong = _take_files(work)
    for stream in work.setting.streams:
        error = wrong.get(stream.name)
        if error is None:
            used[stream.name] = sha256_file(work.obs_file(stream))
        elif _keep_early_copy(work, stream):
            used[stream.name] = sha256_file(work.obs_file(stream))
            reasons.append(f"stream {stream.name}: the copy of the early pass is used, for now {error}")
        elif stream.is_required:
            raise error
        else:
            reasons.append(f"stream {stream.name} is missing: {error}")
            log.warning("cycle=%s stream=%s set aside: %s", time_stamp(work.time), stream.name, error)
    return {"files": used, "degraded": reasons, "delivery": work.delivery}


def _take_files(work: CycleWork) -> dict[str, MissingInput | ObsFileError]:
    """Copy the files of all streams and read them fully; what is wrong, by stream, leaves no copy."""
    found: dict[str, Path] = {}
    wrong: dict[str, MissingInput | ObsFileError] = {}
    for stream in work.setting.streams:
        try:
            found[stream.name] = _copy_file(work, stream)
        except (MissingInput, ObsFileError) as error:
            wrong[stream.name] = error
    copied = [stream for stream in work.setting.streams if stream.name in found]
    fatal = fatal_ends([work.obs_file(stream) for stream in copied], read_bytes)
    for stream in copied:
        copy, source = work.obs_file(stream), found[stream.name]
        try:
            if copy in fatal:
                raise ObsFileError(f"observation file {copy} {fatal[copy]}")
            read_obs_file(copy, work.setting.layout, stream=stream.name, operators=stream.operators)
        except ObsFileError as error:
            copy.unlink()
            wrong[stream.name] = ObsFileError(str(error).replace(str(copy), str(source)))
    return wrong


def _copy_file(work: CycleWork, stream: Stream) -> Path:
    """Copy a stream's file and return where it came from; raises MissingInput or ObsFileError."""
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
    return found


def _keep_early_copy(work: CycleWork, stream: Stream) -> bool:
    """Copy what the early pass used of a stream; False when this is no final pass or it used nothing."""
    copy = work.obs_file(stream)
    name = copy.relative_to(work.folder).as_posix()
    if not work.is_final_pass or name not in work.store.manifest(work.time)["files"]:
        return False
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(work.store.product(work.time, name).read_bytes())
    return True
