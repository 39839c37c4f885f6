"""`cycler calibrate-b | single-observation`: the background-error covariance, and what schemes make of theirs."""

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


def single_observation(
    config: ConfigPath,
    output: Annotated[Path, typer.Option(help="Picture to write (PNG).")],
    variable: Annotated[str | None, typer.Option(help="Observed variable; default: the first.")] = None,
    at: Annotated[str, typer.Option(help="Place as shares of the axes, Y,X.")] = "0.5,0.5",
    departure: Annotated[float, typer.Option(help="Innovation, in background spreads there.")] = 1.0,
    error: Annotated[float, typer.Option(help="Observation error, in background spreads there.")] = 0.5,
    spin_up: Annotated[int, typer.Option(help="Cycles of forecast from the start to the background.")] = 5,
    chain: Annotated[str | None, typer.Option(help="Take this chain's newest published background instead.")] = None,
    overrides: Overrides = None,
) -> None:
    """Give one observation to the scheme of every chain and draw their increments side by side."""
    with expected_errors():
        from cycler_da.config import load_config
        from cycler_da.single_observation import SingleObservation, compare_increments

        try:
            y, x = (float(share) for share in at.split(","))
        except ValueError:
            raise ConfigError(f"single-observation: at is {at!r}; expected two numbers Y,X, such as 0.5,0.5") from None
        job = SingleObservation(
            output, variable=variable, at=(y, x), departure=departure, error=error, spin_up=spin_up, chain=chain
        )
        for line in compare_increments(load_config(config, overrides or []), job, say=console.print):
            typer.echo(line)
