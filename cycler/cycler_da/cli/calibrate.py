"""`cycler calibrate-b`: the background-error covariance of an experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cycler_da.cli.shell import ConfigPath, Overrides, console, expected_errors
from cycler_da.errors import ConfigError


def calibrate_b(
    config: ConfigPath,
    output: Annotated[Path, typer.Option(help="B file to write (NetCDF); a picture goes beside it.")],
    method: Annotated[str, typer.Option(help="errors (against the nature run) or nmc (two forecasts).")] = "errors",
    chain: Annotated[
        str | None, typer.Option(help="Use this chain's published cycles; default: forecasts from the start.")
    ] = None,
    lead: Annotated[str | None, typer.Option(help="Lead time, such as 24h; default: one cycle.")] = None,
    shape: Annotated[
        str | None, typer.Option(help="isotropic, homogeneous or local; default: what fits the grid.")
    ] = None,
    members: Annotated[int, typer.Option(help="Members of each start that forecasts are made from.")] = 4,
    overrides: Overrides = None,
    force: Annotated[bool, typer.Option("--force", help="Write over an earlier file.")] = False,
) -> None:
    """Estimate B, the background-error covariance that var3d and envar read, and draw it."""
    with expected_errors():
        from cycler_da.calibration import CalibrationJob, calibrate_b
        from cycler_da.config import load_config

        job = CalibrationJob(output, method=method, chain=chain, lead=lead, shape=shape, members=members)
        if output.exists() and not force:
            raise ConfigError(f"calibrate-b: {output} exists; give another --output, or --force to write over it")
        for line in calibrate_b(load_config(config, overrides or []), job, say=console.print):
            typer.echo(line)
