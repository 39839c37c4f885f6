"""One analysis of a user's own files: the code path of a cycle without an experiment around it.

The layout comes from the ensemble file. All observations of the file are in the window;
where the ensemble has several times, each is compared with the members at its own time. `settings` are
`key=value` for the scheme, `qc.key=value` for the quality control, `operator.kind=cell` for the operator.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from cycler_da.config import read_settings, read_spec
from cycler_da.ensemble import Ensemble
from cycler_da.errors import ConfigError
from cycler_da.forecast import ForecastModel, InterpolantSpec
from cycler_da.noise import Noise
from cycler_da.obs import catalogue as _obs  # noqa: F401  (registers operators)
from cycler_da.obs.base import Observations
from cycler_da.obs.files import read_obs_file, stream_of_file
from cycler_da.obs.qc import flag_counts, quality_control
from cycler_da.obs.qc_settings import QCSettings
from cycler_da.products.conventions import FileFacts
from cycler_da.products.covariance_file import read_covariance
from cycler_da.products.dataset import read_ensemble, write_ensemble
from cycler_da.products.feedback import write_feedback
from cycler_da.products.provenance import code_version, sha256_file
from cycler_da.schemes import catalogue as _schemes  # noqa: F401  (registers schemes)
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.frame.checked import checked_analysis
from cycler_da.schemes.window.hx import window_hx
from cycler_da.times import Window, iso_time
from cycler_da.trial_read import read_bytes, require_harmless


@dataclass(frozen=True)
class SingleAnalysis:
    """What to analyse, how, and where to put it."""

    background: Path
    observations: Path
    output: Path
    scheme: str = "letkf"
    settings: tuple[str, ...] = ()
    weights: Path | None = None
    previous: Path | None = None
    feedback: Path | None = None
    seed: int = 0


def analyse_files(job: SingleAnalysis) -> list[str]:
    """Read, check, analyse and write; returns lines that say what was done.

    Raises CyclerError for bad files or settings; then nothing is written.
    """
    for path in filter(None, (job.background, job.previous)):
        require_harmless(path, what="ensemble file")
    background = read_ensemble(job.background)
    layout, blocks = background.layout, _blocks(job.settings)
    model: ForecastModel | None = None
    if job.weights is not None:
        model = InterpolantSpec(weights=str(job.weights)).build(layout)
    scheme_spec = read_spec("scheme", {"kind": job.scheme, **blocks["scheme"]}, where="scheme")
    scheme = scheme_spec.build(SchemeContext(layout, model, read_covariance))  # type: ignore[attr-defined]
    if scheme.needs.previous and (model is None or job.previous is None):
        raise ConfigError(
            f"scheme {job.scheme} needs the previous analysis and a learned model: --previous, --forecast"
        )
    noise = Noise.of_cycle(job.seed, background.valid_time)
    checked = _checked(job, background, blocks, noise=noise)
    previous = None if job.previous is None else read_ensemble(job.previous, layout=layout)
    prior = Prior(background, previous, model)
    analysis = checked_analysis(scheme, prior, checked.used(), kind=job.scheme, noise=noise, carry={})
    attributes = {
        "seed": job.seed,
        "code_version": code_version(),
        "background_sha256": sha256_file(job.background),
        "observations_sha256": sha256_file(job.observations),
    }
    facts = FileFacts("analysis", background.valid_time, scheme=job.scheme, attributes=attributes)
    write_ensemble(job.output, analysis.ensemble.at_latest(), facts=facts)
    if job.feedback is not None:
        write_feedback(
            job.feedback,
            checked,
            background_hx=window_hx(background, checked),
            analysis_hx=checked.hx(analysis.ensemble.latest.to(torch.float64)),
            facts=FileFacts("feedback", background.valid_time, scheme=job.scheme, attributes=attributes),
        )
    counts = ", ".join(f"{count} {name}" for name, count in flag_counts(checked).items() if count) or "none"
    lines = [f"{job.output}: analysis of {iso_time(background.valid_time)}, {background.n_members} members"]
    lines.append(f"observations: {counts}")
    return lines + [f"{name} = {value:.6g}" for name, value in sorted(analysis.diagnostics.items())]


def _checked(
    job: SingleAnalysis, background: Ensemble, blocks: dict[str, dict[str, Any]], *, noise: Noise
) -> Observations:
    layout = background.layout
    operator = read_spec("operator", {"kind": "points", **blocks["operator"]}, where="operator").build(layout)  # type: ignore[attr-defined]
    operators = dict.fromkeys(layout.channels, operator)
    require_harmless(job.observations, what="observation file", reader=read_bytes)
    batches = read_obs_file(job.observations, layout, stream=stream_of_file(job.observations), operators=operators)
    arrived = Observations(tuple(batches), layout)
    times = np.concatenate([batch.times for batch in batches])
    times = np.append(times[~np.isnat(times)], background.valid_time)
    window = Window(times.min() - np.timedelta64(1, "s"), times.max())
    settings: QCSettings = read_settings(QCSettings, blocks["qc"], where="qc")
    settings.require_variables(layout.channels)
    hx = window_hx(background, arrived)
    return quality_control(arrived, hx, window=window, settings=settings, noise=noise)


def _blocks(settings: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    blocks: dict[str, dict[str, Any]] = {"scheme": {}, "qc": {}, "operator": {}}
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator:
            raise ConfigError(f"--set {setting!r}: write key=value")
        head, dot, tail = key.partition(".")
        block, name = (blocks[head], tail) if dot and head in blocks else (blocks["scheme"], key)
        try:
            block[name] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {setting!r}: {text!r} is not a YAML value") from error
    return blocks
