"""The commands that train: parse, call, print, write."""

from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from fourier_circuits.cli.display import show_training

if TYPE_CHECKING:
    from fourier_circuits.training.config import Schedule
    from fourier_circuits.training.run import Run
    from fourier_circuits.training.train import Checkpoint


def train(
    out_dir: Annotated[Path, typer.Option("--out", help="The run's folder: new, or with --resume an existing run.")],
    preset: Annotated[str, typer.Option(help="The configuration to start from: paper.")] = "paper",
    epochs: Annotated[Optional[int], typer.Option(help="Full-batch steps; 40,000, if left out.")] = None,
    seed: Annotated[Optional[int], typer.Option(help="Of weights and split.")] = None,
    seeds: Annotated[Optional[str], typer.Option(help="Several runs side by side, as in 0:8 or 0,3,5.")] = None,
    p: Annotated[Optional[int], typer.Option("--p", help="The modulus.")] = None,
    operation: Annotated[Optional[str], typer.Option(help="add or subtract.")] = None,
    train_fraction: Annotated[Optional[float], typer.Option(help="Share of the pairs trained on.")] = None,
    weight_decay: Annotated[Optional[float], typer.Option(help="AdamW's.")] = None,
    learning_rate: Annotated[Optional[float], typer.Option(help="AdamW's.")] = None,
    layers: Annotated[Optional[int], typer.Option(help="Transformer blocks.")] = None,
    engine: Annotated[str, typer.Option(help="factored (exact and fast), plain, or auto.")] = "auto",
    until: Annotated[
        Optional[str], typer.Option(help="grokked (stop when cleanup is over), or finished, if left out.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    compiled: Annotated[bool, typer.Option("--compile", help="Compile, where there is a C++ compiler.")] = False,
    tf32: Annotated[bool, typer.Option("--tf32", help="On a GPU: faster products of 10 bits.")] = False,
    measure_every: Annotated[
        Optional[int], typer.Option(help="Measures while training (live.csv); 0 takes none; 250, if left out.")
    ] = None,
    checkpoint_every: Annotated[
        Optional[int], typer.Option(help="Keep the weights of every so many epochs; 100, if left out.")
    ] = None,
    keep: Annotated[int, typer.Option(help="After measuring, keep so many telling checkpoints; 0 keeps all.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, by its own schedule.")] = False,
    log: Annotated[str, typer.Option(help="bar (lines where there is no terminal), jsonl, or none.")] = "bar",
) -> None:
    """Train a model into a run's folder (or several, with --seeds), then take the progress measures."""
    if preset != "paper":
        raise ValueError(f"unknown preset {preset!r}; known is: paper")
    if log not in ("bar", "jsonl", "none"):
        raise ValueError(f"--log must be bar, jsonl or none, got {log!r}")
    from fourier_circuits.dynamics import LiveMeasures
    from fourier_circuits.training.record import record_many
    from fourier_circuits.training.train import DivergedError, train_many

    sizes = _given(p=p, n_layers=layers)
    options = _given(
        epochs=epochs, seed=seed, operation=operation, train_fraction=train_fraction, weight_decay=weight_decay,
        learning_rate=learning_rate,
    )  # fmt: skip
    times = _given(until=until, checkpoint_every=checkpoint_every, measure_every=measure_every)
    if resume:
        if unwanted := [*sizes, *options, *_given(seeds=seeds)]:
            raise ValueError(f"--resume goes on with the run as it is: leave {', '.join(unwanted)} out")
        run, start, schedule = _resumed(out_dir, times)
        runs, starts = [run], [start]
    else:
        hardware = {"device": device, "compiled": compiled, "tf32": tf32}
        runs, starts = _started(out_dir, sizes, options, seeds, engine, hardware, times), None
        schedule = runs[0].schedule
    engine, total = runs[0].about["engine"], runs[0].config.epochs
    numbers = ", ".join(str(run.config.seed) for run in runs)
    typer.echo(f"{out_dir}: {engine} engine, p={runs[0].config.model.p}, seed {numbers}", err=True)
    steps = train_many([run.config for run in runs], engine, schedule.until, starts, runs[0].hardware)
    live = {run.config: LiveMeasures(run, schedule.measure_every) for run in runs}
    try:
        with ExitStack() as held:
            for run in runs:
                held.enter_context(run.locked())
            recorded = held.enter_context(closing(record_many(runs, steps, schedule.checkpoint_every)))
            ended = show_training(recorded, live, total, starts[0].epoch if starts else 0, log)
    except KeyboardInterrupt:
        how = "; ".join(f"fourier-circuits train --out {run.path} --resume" for run in runs)
        typer.echo(f"stopped and saved; go on with: {how}", err=True)
        raise typer.Exit(130) from None
    diverged = []
    for run in runs:
        last = ended[run.config]
        losses = f"train loss {last.train_loss:.3g}, test loss {last.test_loss:.3g}"
        typer.echo(f"{run.path}: {last.stopped} at epoch {last.epoch}: {losses}", err=True)
        if last.stopped.startswith("diverged"):
            diverged.append(last)
        else:
            _measure(run, keep)
    if diverged:
        raise DivergedError(diverged[0])


def measure(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    keep: Annotated[int, typer.Option(help="Afterwards keep so many telling checkpoints; 0 keeps all.")] = 0,
) -> None:
    """Take the progress measures of every checkpoint of a run and store them in its folder."""
    from fourier_circuits.training.run import Run

    _measure(Run.open(run), keep)


def _given(**options: Any) -> dict[str, Any]:
    """The options that the user gave."""
    return {name: value for name, value in options.items() if value is not None}


def _started(
    out_dir: Path,
    sizes: dict[str, Any],
    options: dict[str, Any],
    seeds: str | None,
    engine: str,
    hardware: dict[str, Any],
    times: dict[str, Any],
) -> "list[Run]":
    """New folders: the one named, or with several seeds one for each in it."""
    from fourier_circuits.model.config import ModelConfig
    from fourier_circuits.training.config import Hardware, RunConfig, Schedule
    from fourier_circuits.training.run import Run
    from fourier_circuits.training.train import choose_engine

    if seeds and "seed" in options:
        raise ValueError("give --seed or --seeds, not both")
    base = RunConfig(model=ModelConfig.paper(**sizes), **options)
    configs = (
        {out_dir / f"seed-{seed}": replace(base, seed=seed) for seed in _seeds(seeds)} if seeds else {out_dir: base}
    )
    how = choose_engine(base, engine), Hardware(**hardware), Schedule(**times)
    return [Run.create(folder, config, *how) for folder, config in configs.items()]


def _resumed(folder: Path, times: dict[str, Any]) -> "tuple[Run, Checkpoint, Schedule]":
    """A run that was cut off, where it goes on, and its schedule with what is asked for now."""
    from fourier_circuits.training.record import resume_point
    from fourier_circuits.training.run import Run

    run = Run.open(folder)
    start, schedule = resume_point(run), replace(run.schedule, **times)
    if start.epoch >= run.config.epochs or start.stopped == schedule.until:
        more = "; --until finished trains it to its last epoch" if start.stopped == "grokked" else ""
        raise ValueError(f"{str(folder)!r} is {start.stopped} at epoch {start.epoch}: nothing to go on with{more}")
    return run, start, schedule


def _measure(run: "Run", keep: int) -> None:
    from fourier_circuits.analysis.progress import phases
    from fourier_circuits.dynamics import progress_measures, telling_epochs
    from fourier_circuits.identification import key_frequencies

    found = key_frequencies(run.model(), task=run.task)
    if not found:
        typer.echo(f"no progress measures: {found!r}")
        return
    measures = progress_measures(run, freqs=found)
    run.save_measures(measures.frame)
    if keep:
        run.thin(telling_epochs(measures.frame, keep))
    typer.echo(f"key frequencies {', '.join(map(str, found))}; {phases(measures)}; measures in {run.path}/measures.csv")


def _seeds(text: str) -> list[int]:
    try:
        if ":" in text:
            first, stop = (int(part) for part in text.split(":"))
            found = list(range(first, stop))
        else:
            found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or len(set(found)) < len(found):
        raise ValueError(f"--seeds must be a range such as 0:8 or a list such as 0,3,5, got {text!r}")
    return found
