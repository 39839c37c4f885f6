"""`cycler whatif | impact`: what observations did to one archived analysis."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cycler_da.cli.replay import ChainName, ExperimentPath
from cycler_da.cli.shell import expected_errors
from cycler_da.errors import ConfigError

if TYPE_CHECKING:
    from cycler_da.replay.impact import ImpactList

Cycle = Annotated[str, typer.Option("--cycle", help="Stamp such as 20200102T0000Z, or `latest`.")]


def whatif(
    experiment: ExperimentPath,
    cycle: Cycle,
    drop: Annotated[
        list[str] | None,
        typer.Option("--drop", help="Observation id, stream:NAME, station:NAME or region:y=LOW..HIGH,x=LOW..HIGH."),
    ] = None,
    scale_error: Annotated[
        list[str] | None, typer.Option("--scale-error", metavar="[STREAM=]F", help="Multiply observation errors.")
    ] = None,
    chain: ChainName = None,
    out: Annotated[Path, typer.Option(help="Folder for the what-if analysis; absent or empty.")] = Path("whatif"),
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="First make the archived analysis again, bit for bit.")
    ] = True,
) -> None:
    """Analyse an archived cycle again from changed observations and write the difference."""
    with expected_errors():
        from cycler_da.replay.change import read_change
        from cycler_da.replay.shadow import find_cycle
        from cycler_da.replay.whatif import what_if

        change = read_change(drop or [], scale_error or [])
        report = what_if(find_cycle(experiment, cycle, chain), change, out, check=check)
        typer.echo(f"{report['chain']}/{report['cycle']}: {report['change']}")
        typer.echo(f"observations used: {report['n_used']} of {report['n_used_before']}")
        if report["is_same"]:
            typer.echo("the analysis is the archived one, bit for bit")
        for name, moved in report["variables"].items():
            typer.echo(_moved_line(name, moved))
        typer.echo(str(out / "difference.nc"))


def impact(
    experiment: ExperimentPath,
    cycle: Cycle,
    event: Annotated[str, typer.Option("--event", metavar="'VARIABLE>=THRESHOLD'", help="In units of the variable.")],
    cell: Annotated[str, typer.Option("--cell", metavar="[Y,]X", help="Indices of the cell, from 0.")],
    steps: Annotated[int, typer.Option(min=0, help="Model steps after the analysis.")] = 0,
    exact: Annotated[int, typer.Option(min=1, help="Observations that are left out one by one.")] = 20,
    chain: ChainName = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """List the observations that moved a probability at one cell, by leaving each of them out."""
    with expected_errors():
        from dataclasses import asdict

        from cycler_da.replay.impact import Event, impact_list
        from cycler_da.replay.shadow import find_cycle

        variable, threshold = _event(event)
        wanted = Event(variable, _cell(cell), threshold, steps)
        found = impact_list(find_cycle(experiment, cycle, chain), wanted, n_exact=exact)
        if as_json:
            typer.echo(json.dumps(asdict(found), indent=1))
            return
        for line in _impact_lines(event, found):
            typer.echo(line)


def _event(text: str) -> tuple[str, float]:
    variable, separator, number = text.partition(">=")
    try:
        if not separator:
            raise ValueError(text)
        return variable.strip(), float(number)
    except ValueError as error:
        raise ConfigError(f"--event {text!r}: write VARIABLE>=THRESHOLD, such as 'vil>=3.5', in quotes") from error


def _cell(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--cell {text!r}: write indices from 0, such as 12,40") from error


def _moved_line(name: str, moved: dict[str, Any]) -> str:
    line = (
        f"{name}: rms difference of the mean {moved['rms_difference']:.3g} {moved['units']}, largest "
        f"{moved['largest_difference']:.3g} at cell {moved['largest_at_cell']}, spread {moved['spread_before']:.4g} -> "
        f"{moved['spread']:.4g}"
    )
    if "rmse" in moved:
        line += f", RMSE {moved['rmse_before']:.4g} -> {moved['rmse']:.4g}"
    return line


def _impact_lines(event: str, found: ImpactList) -> list[str]:
    probability, mean = found.without_all
    head = [
        f"P({event}) = {found.probability:.3f}, mean {found.mean:.4g}; without any observation {probability:.3f}, "
        f"{mean:.4g}",
        f"{found.n_screened} observations screened, {len(found.impacts)} left out one by one:",
        f"{'change of P':>12} {'of the mean':>12} {'expected':>12} {'innovation':>12}  observation",
    ]
    rows = [
        f"{one.probability:>+12.3f} {one.mean:>+12.3g} {one.expected:>+12.3g} {one.innovation:>+12.3g}  "
        f"{one.id} ({one.stream}) at {', '.join(f'{x:g}' for x in one.position)}"
        for one in found.impacts
    ]
    return [*head, *rows]
