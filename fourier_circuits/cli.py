"""The command line: parse, call, print, write. No arithmetic."""

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from fourier_circuits.anatomy import Anatomy
    from fourier_circuits.reproduction import Reproduction
    from fourier_circuits.training.run import Run

app = typer.Typer(
    help="Does this network compute with rotations, and can you prove it by taking them away?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out = Console()

CHECKPOINT = Annotated[Path, typer.Argument(help="A run's folder, or a checkpoint file in any known format.")]
EPOCH = Annotated[Optional[int], typer.Option(help="Which checkpoint of a run; the last, if left out.")]
AS_JSON = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
MODULUS = Annotated[Optional[int], typer.Option("--p", help="The modulus, if it cannot be told from the model.")]


def main() -> None:
    """The entry point: bad input is one sentence on standard error and exit code 2."""
    try:
        app()
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        if type(error) is RuntimeError:
            raise
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


@app.command()
def reproduce(
    run: Annotated[Optional[Path], typer.Argument(help="A run's folder; the bundled run, if left out.")] = None,
    out_dir: Annotated[Optional[Path], typer.Option("--out", help="Folder for claims.csv and claims.json.")] = None,
    json_file: Annotated[Optional[Path], typer.Option("--json", help="Write the table as JSON to this file.")] = None,
    epoch: EPOCH = None,
) -> None:
    """Re-measure every claim of the paper on one run, the printed value beside ours."""
    if out_dir is not None:
        _check_output_folder(out_dir)
    from fourier_circuits.reproduction import reproduce as measure
    from fourier_circuits.training.run import Run, bundled_run

    result = measure(Run.open(run or bundled_run()), epoch)
    _print_reproduction(result)
    text = _json(result.to_dict())
    if out_dir is not None:
        _write(out_dir / "claims.json", text)
        _write(out_dir / "claims.csv", result.to_frame().to_csv())
        typer.echo(f"wrote {out_dir / 'claims.csv'} and {out_dir / 'claims.json'}")
    if json_file is not None:
        _write(json_file, text)
        typer.echo(f"wrote {json_file}")


@app.command()
def analyse(checkpoint: CHECKPOINT, epoch: EPOCH = None, p: MODULUS = None, as_json: AS_JSON = False) -> None:
    """Say what is inside a network: key frequencies, neurons, heads, read-off, losses."""
    from fourier_circuits.anatomy import anatomy

    model, task, train = _loaded(checkpoint, epoch, p)
    result = anatomy(model, task=task, train=train)
    typer.echo(_json(result.to_dict())) if as_json else _print_anatomy(result)


@app.command()
def ablate(
    checkpoint: CHECKPOINT,
    freqs: Annotated[str, typer.Option(help="Frequencies, as in 14,35,41; or 'key' for the key frequencies.")],
    at: Annotated[str, typer.Option(help="The site, such as logits, mlp_post, attn_out or embed.")] = "logits",
    keep: Annotated[bool, typer.Option("--keep", help="Keep only these frequencies instead of removing them.")] = False,
    directions: Annotated[Optional[str], typer.Option(help="sum or block; by default what fits the site.")] = None,
    each: Annotated[bool, typer.Option("--each", help="Also every frequency by itself.")] = False,
    layer: Annotated[Optional[int], typer.Option(help="The block of the site; the last, if left out.")] = None,
    epoch: EPOCH = None,
    p: MODULUS = None,
    as_json: AS_JSON = False,
) -> None:
    """Remove frequencies inside a network (or keep only them) and print what it costs."""
    from fourier_circuits.ablation import ablate as apply
    from fourier_circuits.identification import key_frequencies

    model, task, train = _loaded(checkpoint, epoch, p)
    ks = key_frequencies(model, task=task) if freqs == "key" else _frequencies(freqs)
    options: dict[str, Any] = {"directions": directions, "each": each, "layer": layer, "train": train, "task": task}
    result = apply(model, ks, at=at, keep=keep, **options)
    if as_json:
        typer.echo(_json(result.to_dict()))
        return
    typer.echo(repr(result))
    if each:
        _print_rows(result.to_frame().to_dict(orient="records"), ["freqs", "loss", "accuracy", "change"])
    for name in ("train", "test"):
        scores = getattr(result, name)
        if scores is not None:
            typer.echo(f"{name} pairs: loss {scores.baseline_loss:.4g} -> {scores.loss:.4g}")


@app.command()
def train(
    out_dir: Annotated[Path, typer.Option("--out", help="The run's folder: new, or with --resume an existing run.")],
    preset: Annotated[str, typer.Option(help="The configuration to start from: paper.")] = "paper",
    epochs: Annotated[Optional[int], typer.Option(help="Full-batch steps.")] = None,
    seed: Annotated[Optional[int], typer.Option(help="Of weights and split.")] = None,
    p: Annotated[Optional[int], typer.Option("--p", help="The modulus.")] = None,
    operation: Annotated[Optional[str], typer.Option(help="add or subtract.")] = None,
    train_fraction: Annotated[Optional[float], typer.Option(help="Share of the pairs trained on.")] = None,
    weight_decay: Annotated[Optional[float], typer.Option(help="AdamW's.")] = None,
    learning_rate: Annotated[Optional[float], typer.Option(help="AdamW's.")] = None,
    layers: Annotated[Optional[int], typer.Option(help="Transformer blocks.")] = None,
    engine: Annotated[str, typer.Option(help="factored (exact and fast), plain, or auto.")] = "auto",
    until: Annotated[str, typer.Option(help="finished, or grokked: stop at a test loss below 1e-6.")] = "finished",
    checkpoint_every: Annotated[int, typer.Option(help="Keep the weights of every so many epochs.")] = 100,
    keep: Annotated[int, typer.Option(help="After measuring, keep so many telling checkpoints; 0 keeps all.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
) -> None:
    """Train a model into a run's folder, then take its progress measures."""
    if preset != "paper":
        raise ValueError(f"unknown preset {preset!r}; known is: paper")
    from fourier_circuits.model.config import ModelConfig
    from fourier_circuits.training.config import RunConfig
    from fourier_circuits.training.record import record, resume_point
    from fourier_circuits.training.run import Run
    from fourier_circuits.training.train import choose_engine
    from fourier_circuits.training.train import train as checkpoints

    chosen = {
        "epochs": epochs, "seed": seed, "operation": operation, "train_fraction": train_fraction,
        "weight_decay": weight_decay, "learning_rate": learning_rate,
    }  # fmt: skip
    sizes = {name: value for name, value in {"p": p, "n_layers": layers}.items() if value is not None}
    options = {name: value for name, value in chosen.items() if value is not None}
    if resume:
        if options or sizes:
            raise ValueError(f"--resume goes on with the run as it is: leave {', '.join([*options, *sizes])} out")
        run = Run.open(out_dir)
        start = resume_point(run)
    else:
        config = RunConfig(model=ModelConfig.paper(**sizes), **options)
        used = choose_engine(config, engine)
        run, start = Run.create(out_dir, config, used), None
    typer.echo(f"{run.path}: {run.about['engine']} engine, seed {run.config.seed}, p={run.config.model.p}")
    stream = checkpoints(run.config, run.about["engine"], until, start)
    try:
        with run.locked(), closing(record(run, stream, checkpoint_every)) as recorded:
            last = _follow(recorded, run.config.epochs, start.epoch if start else 0)
    except KeyboardInterrupt:
        typer.echo(f"stopped and saved; go on with: fourier-circuits train --out {run.path} --resume", err=True)
        raise typer.Exit(130) from None
    typer.echo(
        f"{last.stopped} at epoch {last.epoch}: train loss {last.train_loss:.3g}, test loss {last.test_loss:.3g}"
    )
    _measure(run, keep)


@app.command()
def measure(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    keep: Annotated[int, typer.Option(help="Afterwards keep so many telling checkpoints; 0 keeps all.")] = 0,
) -> None:
    """Take the progress measures of every checkpoint of a run and store them in its folder."""
    from fourier_circuits.training.run import Run

    _measure(Run.open(run), keep)


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


def _follow(checkpoints: Any, total: int, start: int) -> Any:
    """Show training as it goes: a bar on a terminal, a line every thousand epochs elsewhere."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("epoch {task.completed:,.0f} of {task.total:,.0f}"), BarColumn(), TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    last = None
    with Progress(*columns, console=out, disable=not out.is_terminal, speed_estimate_period=60) as bar:
        shown = bar.add_task("train", total=total, completed=start, state="")
        for last in checkpoints:
            state = f"train {last.train_loss:.2e}  test {last.test_loss:.2e}  test accuracy {last.test_accuracy:.1%}"
            bar.update(shown, completed=last.epoch, state=state)
            if not out.is_terminal and last.epoch % 1000 == 0:
                typer.echo(f"epoch {last.epoch} of {total}  {state}")
    return last


def _loaded(path: Path, epoch: int | None, p: int | None) -> tuple[Any, Any, Any]:
    """Model, task and training pairs of what was named; task and pairs are known for a run only."""
    from fourier_circuits.model.formats import load_model
    from fourier_circuits.task import ModularAddition
    from fourier_circuits.training.run import Run

    if path.is_dir() and (path / "config.json").is_file():
        run = Run.open(path)
        task = run.task if p is None else ModularAddition(p, run.config.operation)
        return run.model(epoch), task, run.train_pairs if p is None else None
    return load_model(path, epoch), None if p is None else ModularAddition(p), None


def _frequencies(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--freqs must be integers separated by commas, as in 14,35, or 'key'; got {text!r}") from None


def _check_output_folder(folder: Path) -> None:
    """Refuse to write among somebody else's files, before any work is done."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out must be a folder, {str(folder)!r} is a file")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "claims.json").is_file():
        raise ValueError(f"{str(folder)!r} exists and holds other files: give a new folder, or an earlier output")
    folder.mkdir(parents=True, exist_ok=True)


def _write(path: Path, text: str) -> None:
    from fourier_circuits.model.formats import write_whole

    write_whole(path, text.encode())


def _json(values: Any) -> str:
    return json.dumps(values, indent=1, default=float)


def _print_rows(rows: list[dict[str, Any]], columns: list[str]) -> None:
    table = Table(*columns)
    for row in rows:
        table.add_row(*(f"{row[c]:.4g}" if isinstance(row[c], float) else str(row[c]) for c in columns))
    out.print(table)


def _print_reproduction(result: "Reproduction") -> None:
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


def _print_anatomy(result: "Anatomy") -> None:
    typer.echo(f"p = {result.p}")
    for name, value in result.losses.items():
        typer.echo(f"  {name.replace('_', ' ')}: {value:.4g}")
    for found in result.by_rule.values():
        typer.echo(repr(found))
    sizes = ", ".join(f"{k}: {len(members)}" for k, members in result.neurons.clusters().items())
    typer.echo(f"neurons over 85% by frequency (of {len(result.neurons.share)}): {sizes or 'none'}")
    _print_rows([{"head": i, **head} for i, head in enumerate(result.heads)], ["head", *result.heads[0]])
    for name, value in result.circuit.items():
        shown = {k: f"{v:.4g}" for k, v in value.items()} if isinstance(value, dict) else f"{value:.4g}"
        typer.echo(f"{name.replace('_', ' ')}: {shown}")
