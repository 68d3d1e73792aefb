"""What the commands show on a screen: tables and the progress of a training."""

import json
import sys
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from fourier_circuits.anatomy import Anatomy
    from fourier_circuits.dynamics import LiveMeasures
    from fourier_circuits.reproduction import Reproduction

out = Console(width=None if sys.stdout.isatty() else 160)


def show_training(steps: Any, live: "dict[Any, LiveMeasures]", total: int, start: int, log: str) -> dict[Any, Any]:
    """Show training as it goes, measuring on the way; returns the last checkpoint of every run by its configuration.

    On a terminal a bar; elsewhere a line every thousand epochs; or one JSON object per log point and run.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("epoch {task.completed:,.0f} of {task.total:,.0f}"), BarColumn(), TextColumn("{task.fields[state]}"),
        TextColumn("{task.fields[rate]}"), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    last: dict[Any, Any] = {}
    bar_shown = log == "bar" and out.is_terminal
    with Progress(*columns, console=out, disable=not bar_shown, speed_estimate_period=60) as bar:
        shown = bar.add_task("train", total=total, completed=start, state="", rate="")
        for step in steps:
            last |= {checkpoint.config: checkpoint for checkpoint in step}
            phase = {checkpoint.config: live[checkpoint.config].take(checkpoint) for checkpoint in step}
            first = step[0]
            if log == "jsonl":
                for c in step:
                    names = ("epoch", "train_loss", "test_loss", "train_accuracy", "test_accuracy", "stopped")
                    values = {name: getattr(c, name) for name in names}
                    typer.echo(json.dumps({"seed": c.config.seed, **values, "phase": phase[c.config]}))
                continue
            state = f"train {first.train_loss:.2e}  test {first.test_loss:.2e}  test accuracy {first.test_accuracy:.1%}"
            if bar_shown:
                speed = bar.tasks[shown].speed
                bar.update(
                    shown,
                    completed=first.epoch,
                    state=f"{state}  {phase[first.config]}",
                    rate=f"{speed:.0f}/s" if speed else "",
                )
            elif log == "bar" and first.epoch % 1000 == 0:
                typer.echo(f"epoch {first.epoch} of {total}  {state}  {phase[first.config]}")
    return last


def show_rows(rows: list[dict[str, Any]], columns: list[str]) -> None:
    """Some columns of a table."""
    table = Table(*columns)
    for row in rows:
        table.add_row(*(f"{row[c]:.4g}" if isinstance(row[c], float) else str(row[c]) for c in columns))
    out.print(table)


def show_reproduction(result: "Reproduction") -> None:
    """The claims, the printed values beside ours."""
    table = Table("", "claim", "paper", "ours", "verdict", show_lines=True)
    for claim in result.claims:
        colour = "green" if claim.verdict == "holds" else "red"
        sentence = f"{claim.printed.sentence} [dim]{claim.printed.where}[/dim]"
        table.add_row(
            claim.id, sentence, claim.printed.printed, claim.ours.text, f"[{colour}]{claim.verdict}[/{colour}]"
        )
    out.print(table)
    holding = sum(claim.verdict == "holds" for claim in result.claims)
    typer.echo(
        f"{holding} of {len(result.claims)} claims hold on {result.run.path}, epoch {result.epoch:,}, key frequencies "
        f"{', '.join(map(str, result.freqs))}. Losses in float64 over all pairs where nothing else is said."
    )


def show_anatomy(result: "Anatomy") -> None:
    """What is inside a network."""
    typer.echo(f"p = {result.p}")
    for name, value in result.losses.items():
        typer.echo(f"  {name.replace('_', ' ')}: {value:.4g}")
    for found in result.by_rule.values():
        typer.echo(repr(found))
    sizes = ", ".join(f"{k}: {len(members)}" for k, members in result.neurons.clusters().items())
    typer.echo(f"neurons over 85% by frequency (of {len(result.neurons.share)}): {sizes or 'none'}")
    show_rows([{"head": i, **head} for i, head in enumerate(result.heads)], ["head", *result.heads[0]])
    for name, value in result.circuit.items():
        shown = {k: f"{v:.4g}" for k, v in value.items()} if isinstance(value, dict) else f"{value:.4g}"
        typer.echo(f"{name.replace('_', ' ')}: {shown}")
