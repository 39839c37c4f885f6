"""`cycler nature | observe | train | plot`: make what cycles need, and maps again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cycler_da.cli.shell import ConfigPath, Overrides, console, expected_errors
from cycler_da.errors import ConfigError, MissingInput

Force = Annotated[bool, typer.Option("--force", help="Make it again although it is there.")]


def nature(config: ConfigPath, overrides: Overrides = None, force: Force = False) -> None:
    """Write the nature run of an experiment as chunked NetCDF."""
    with expected_errors():
        from cycler_da.preparation import open_or_make_nature
        from cycler_da.setting import load_setting

        setting = load_setting(config, overrides or [])
        if open_or_make_nature(setting, console.print, force=force) is None:
            raise ConfigError(f"{config} has no nature block")
        typer.echo(str(setting.config.nature["path"]) if setting.config.nature else "")


def observe(config: ConfigPath, overrides: Overrides = None, force: Force = False) -> None:
    """Draw the synthetic observation files of an experiment from its nature run."""
    with expected_errors():
        from cycler_da.preparation import draw_stream, open_or_make_nature
        from cycler_da.setting import load_setting

        setting = load_setting(config, overrides or [])
        truth = open_or_make_nature(setting, console.print)
        drawn = [stream for stream in setting.streams if stream.network is not None]
        if not drawn:
            raise ConfigError(f"{config}: no stream has a `draw` block; there is nothing to draw")
        for stream in drawn:
            for path in draw_stream(setting, stream, truth, say=console.print, force=force):
                typer.echo(str(path))


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="Training YAML, such as config/train/qg.yaml.")],
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
) -> None:
    """Train a transition, or continue its training, and write weights and card."""
    with expected_errors():
        import torch
        from rich.progress import Progress

        from cycler_da.products.provenance import code_version
        from cycler_da.training_run import read_train_config, run_training

        torch.set_num_threads(threads)
        read = read_train_config(config)
        with Progress(console=console) as bar:
            task = bar.add_task(read.name, total=None)

            def show(progress) -> None:  # type: ignore[no-untyped-def]  # generative.training.Progress
                bar.update(task, total=progress.steps, completed=progress.step)
                scores = f"loss {progress.loss:.4f}"
                if progress.validation_rmse is not None:
                    scores = f"held-out one-step RMSE {progress.validation_rmse:.5f} "
                    scores += f"(persistence {progress.persistence_rmse:.5f})"
                console.print(f"step {progress.step}: {scores}, {progress.seconds:.0f} s")

            card = run_training(
                read, device=device, code_version=code_version(), on_progress=show, on_message=console.print
            )
        typer.echo(f"{read.out}: sha256 {card.sha256}")


def plot(
    cycle: Annotated[Path, typer.Argument(help="Folder of a published cycle, or of an experiment (its page).")],
    out: Annotated[Path | None, typer.Option(help="Where figures of a cycle go; default: ./plots.")] = None,
) -> None:
    """Draw the maps of a published cycle again, elsewhere; or write the page of an experiment again."""
    with expected_errors():
        from cycler_da.plots.maps import plot_cycle
        from cycler_da.plots.page import write_page

        if (cycle / "analysis.nc").is_file():
            for path in plot_cycle(cycle, out or Path("plots")):
                typer.echo(str(path))
        elif (cycle / "experiment.yaml").is_file():
            typer.echo(str(write_page(cycle)))
        else:
            raise MissingInput(f"{cycle} is neither a cycle (analysis.nc) nor an experiment (experiment.yaml)")
