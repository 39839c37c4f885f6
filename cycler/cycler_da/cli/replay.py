"""`cycler replay`: an archived cycle made again and compared bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cycler_da.cli.shell import expected_errors
from cycler_da.errors import EXIT_COMPLETE, ConfigError

ExperimentPath = Annotated[Path, typer.Argument(metavar="EXPERIMENT", help="Folder of an experiment, <root>/<name>.")]
ChainName = Annotated[str | None, typer.Option("--chain", help="Chain; needed where the experiment has several.")]

#: As `cycler verify`: what is stored is not what it should be.
_DIFFERENT = 65


def replay(
    experiment: ExperimentPath,
    cycles: Annotated[
        list[str] | None, typer.Argument(metavar="[CYCLE]...", help="Stamps such as 20200102T0000Z, or `latest`.")
    ] = None,
    chain: ChainName = None,
    sample: Annotated[int, typer.Option(min=0, help="Instead of naming cycles: this many, drawn at random.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the sample.")] = 0,
) -> None:
    """Make cycles again from their manifests and compare every value; the archive is not written."""
    with expected_errors():
        from cycler_da.replay.again import replay as make_again

        chosen = _chosen(experiment, cycles or [], chain, sample, seed)
        different = 0
        for archived in chosen:
            found = make_again(archived)
            different += not found.is_same
            verdict = f"the same bits ({found.n_members} fields of members)" if found.is_same else "DIFFERENT"
            typer.echo(f"{found.name}: {verdict}")
            for what, lines in (("damaged archive", found.damaged), ("difference", found.differences)):
                for line in lines:
                    typer.echo(f"  {what}: {line}")
            for line in found.origin:
                typer.echo(f"  made otherwise: {line}")
        typer.echo(f"{len(chosen)} cycles replayed, {different} different", err=True)
        raise typer.Exit(_DIFFERENT if different else EXIT_COMPLETE)


def _chosen(experiment: Path, cycles: list[str], chain: str | None, sample: int, seed: int) -> list[Any]:
    from cycler_da.replay.shadow import find_cycle, sample_cycles

    if bool(cycles) == bool(sample):
        raise ConfigError("replay: name cycles (or `latest`), or give --sample N; not both")
    if cycles:
        return [find_cycle(experiment, cycle, chain) for cycle in cycles]
    return sample_cycles(experiment, chain, count=sample, seed=seed)
