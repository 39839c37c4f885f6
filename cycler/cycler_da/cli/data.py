"""`cycler data`: events of the SEVIR archive listed and fetched, and radar files as CF NetCDF."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cycler_da.cli.shell import console, expected_errors
from cycler_da.errors import ConfigError

app = typer.Typer(name="data", help="Real radar: list, fetch and convert.", no_args_is_help=True, rich_markup_mode=None)
sevir = typer.Typer(name="sevir", help="The public SEVIR archive.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(sevir)

Catalog = Annotated[Path, typer.Option(help="CATALOG.csv of the archive, plain or .gz.")]
SplitName = Annotated[str | None, typer.Option("--split", help="neurips, earthformer or diffcast.")]
PartName = Annotated[str | None, typer.Option(help="train, validation or test, of the split.")]
Kind = Annotated[str | None, typer.Option(help="Part of the event type, such as hail.")]
Missing = Annotated[float, typer.Option(help="Largest share of missing pixels, 0 to 1.")]


@sevir.command("list")
def list_events(
    catalog: Catalog = Path("CATALOG.csv"),
    split: SplitName = None,
    part: PartName = None,
    kind: Kind = None,
    missing: Missing = 0.0,
    limit: Annotated[int, typer.Option(help="Most lines.")] = 50,
) -> None:
    """List events: id, time, type, lower left corner, share of missing pixels."""
    with expected_errors():
        from cycler_da.systems.sevir_catalog import read_events, select
        from cycler_da.times import iso_time

        chosen = select(read_events(catalog), split=split, part=part, kind=kind, most_missing=missing)
        for event in chosen[:limit]:
            north, east = event.lower_left
            place = f"{north:7.3f} {east:8.3f}"
            typer.echo(
                f"{event.id:<18} {iso_time(event.time)}  {event.kind or 'random':<18} {place}  {event.missing:g}"
            )
        console.print(f"{len(chosen)} events" + (f", the first {limit} shown" if len(chosen) > limit else ""))


@sevir.command("download")
def download(
    ids: Annotated[
        list[str] | None, typer.Argument(help="Ids of events; without, those that the options choose.")
    ] = None,
    catalog: Catalog = Path("CATALOG.csv"),
    out: Annotated[Path, typer.Option(help="Folder of the events' files.")] = Path("data/sevir"),
    split: SplitName = None,
    part: PartName = None,
    kind: Kind = None,
    missing: Missing = 0.0,
    most: Annotated[int, typer.Option(help="Most events; each takes 7 MB.")] = 20,
    archive: Annotated[str, typer.Option(help="Address of the archive.")] = "https://sevir.s3.amazonaws.com",
) -> None:
    """Fetch single events; what is there already is checked and left alone."""
    with expected_errors():
        from rich.progress import Progress

        from cycler_da.systems.sevir_catalog import read_events, select
        from cycler_da.systems.sevir_download import download_events

        events = read_events(catalog)
        if ids:
            by_id = {event.id: event for event in events}
            unknown = [name for name in ids if name not in by_id]
            if unknown:
                raise ConfigError(f"no VIL event {', '.join(unknown)} in {catalog}; see `cycler data sevir list`")
            chosen = [by_id[name] for name in ids]
        else:
            chosen = select(events, split=split, part=part, kind=kind, most_missing=missing)[:most]
        with Progress(console=console, transient=True) as bar:
            task = bar.add_task("events", total=len(chosen))
            written = download_events(
                chosen,
                out,
                archive=archive,
                on_event=lambda done, event: bar.update(task, completed=done, description=event.id),
            )
        for path in written:
            typer.echo(str(path))


@app.command("convert")
def convert(
    path: Annotated[Path, typer.Argument(help="SEVIR or SEVIR-LR file, or a NetCDF sequence of another radar.")],
    out: Annotated[Path, typer.Argument(help="NetCDF file to write.")],
    event: Annotated[str, typer.Option(help="Row number from 0, or id.")] = "0",
    size: Annotated[int, typer.Option(help="Cells along each axis: 128 or 384.")] = 128,
    frame_interval: Annotated[str, typer.Option(help="Of the file: 5min, or 10min for SEVIR-LR.")] = "5min",
    step: Annotated[str, typer.Option(help="Between the frames to write.")] = "5min",
    coarsen: Annotated[str, typer.Option(help="From 384 to 128 cells: max or centre.")] = "max",
    catalog: Annotated[Path | None, typer.Option(help="CATALOG.csv, for position and time.")] = None,
    variable: Annotated[
        str | None, typer.Option(help="Of a sequence of another radar, (time, y, x) in kg m-2, dBZ or mm h-1.")
    ] = None,
    lower_left: Annotated[
        tuple[float, float] | None, typer.Option(help="Latitude and longitude of the south-western corner.")
    ] = None,
) -> None:
    """Write an event, or frames of another radar, as CF NetCDF: VIL in kg m-2, missing pixels with the fill value."""
    with expected_errors():
        from cycler_da.conversion import convert_event, convert_sequence
        from cycler_da.systems.sevir import SevirNatureSpec

        spec = SevirNatureSpec(
            path=str(path),
            event=int(event) if event.isdigit() else event,
            size=size,
            step=step,
            frame_interval=frame_interval,
            coarsen=coarsen,
            catalog=None if catalog is None else str(catalog),
            lower_left=lower_left,
        )
        n_frames = convert_event(spec, out) if variable is None else convert_sequence(path, variable, spec, out)
        typer.echo(f"{out}: {n_frames} frames")
