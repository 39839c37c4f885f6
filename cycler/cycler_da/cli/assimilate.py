"""`cycler assimilate`: one analysis of a user's own ensemble and observations, without any experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cycler_da.cli.shell import expected_errors


def assimilate(
    background: Annotated[Path, typer.Option(help="Ensemble: (realization,[channel],y,x) or (realization,x).")],
    observations: Annotated[Path, typer.Option(help="Observation file, IODA-like groups.")],
    output: Annotated[Path, typer.Option(help="Analysis to write.")],
    scheme: Annotated[str, typer.Option(help="Scheme, such as letkf.")] = "letkf",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Setting of the scheme or qc.KEY=VALUE.")
    ] = None,
    forecast: Annotated[
        Path | None, typer.Option(help="Weights folder, for schemes that need a learned model.")
    ] = None,
    previous: Annotated[Path | None, typer.Option(help="Previous analysis, for schemes that need it.")] = None,
    feedback: Annotated[Path | None, typer.Option(help="Folder for the feedback file.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
) -> None:
    """Make one analysis: read, check, analyse, write."""
    with expected_errors():
        from cycler_da.single import SingleAnalysis, analyse_files

        job = SingleAnalysis(
            background=background,
            observations=observations,
            output=output,
            scheme=scheme,
            settings=tuple(settings or ()),
            weights=forecast,
            previous=previous,
            feedback=feedback,
            seed=seed,
        )
        for line in analyse_files(job):
            typer.echo(line)
