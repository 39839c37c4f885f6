"""`cycler retain`: archive and remove what has had its time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cycler_da.cli.shell import Overrides, expected_errors, set_up_logging
from cycler_da.errors import EXIT_COMPLETE, MissingInput


def retain(
    experiment: Annotated[Path, typer.Argument(metavar="EXPERIMENT", help="Folder of an experiment, <root>/<name>.")],
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, change nothing.")] = False,
) -> None:
    """Archive and remove files by the tiers of `operations.retention`, and nothing that an unfinished cycle needs."""
    set_up_logging(verbose=False)
    with expected_errors():
        from cycler_da.config import load_config
        from cycler_da.operations.retention import Report, carry_out, plan, require_archive
        from cycler_da.plots.page import write_page
        from cycler_da.products.store import Store

        folder = experiment.resolve()
        path = folder / "experiment.yaml"
        if not path.is_file():
            raise MissingInput(f"{path} does not exist; give the folder <root>/<experiment> of a run")
        config = load_config(path, overrides or [])
        archive = require_archive(config.operations.retention)
        report, times = Report(), config.valid_times()
        for chain in config.chains:
            store = Store(folder.parent, folder.name, chain.name)
            for one in list(plan(store, config.operations.retention, times)):
                if dry_run:
                    typer.echo(f"{one.folder.relative_to(folder)}: {len(one.names)} files, {one.bytes} bytes")
                    report.files, report.bytes = report.files + len(one.names), report.bytes + one.bytes
                else:
                    carry_out(one, archive, report)
        if report.files and not dry_run:
            write_page(folder)
        for problem in report.problems:
            typer.echo(f"PROBLEM: {problem}", err=True)
        verb = "would be retired" if dry_run else "retired"
        typer.echo(f"{report.files} files, {report.bytes} bytes {verb}, {len(report.problems)} problems", err=True)
        raise typer.Exit(65 if report.problems else EXIT_COMPLETE)
