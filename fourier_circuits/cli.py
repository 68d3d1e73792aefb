"""The command line: parse, call, print, write. No arithmetic."""

import json
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from fourier_circuits.display import show_anatomy, show_reproduction, show_rows, show_training

if TYPE_CHECKING:
    from fourier_circuits.reproduction import Reproduction
    from fourier_circuits.training.run import Run

app = typer.Typer(
    help="Does this network compute with rotations, and can you prove it by taking them away?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
CHECKPOINT = Annotated[Path, typer.Argument(help="A run's folder, or a checkpoint file in any known format.")]
EPOCH = Annotated[Optional[int], typer.Option(help="Which checkpoint of a run; the last, if left out.")]
AS_JSON = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
MODULUS = Annotated[Optional[int], typer.Option("--p", help="The modulus, if it cannot be told from the model.")]
PNG = Annotated[bool, typer.Option("--png", help="Also every figure as PNG; needs kaleido and a Chromium.")]


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
    out_dir: Annotated[Optional[Path], typer.Option("--out", help="Folder for the report and claims.csv.")] = None,
    json_file: Annotated[Optional[Path], typer.Option("--json", help="Write the table as JSON to this file.")] = None,
    png: PNG = False,
    epoch: EPOCH = None,
) -> None:
    """Re-measure every claim of the paper on one run, the printed value beside ours; with --out also as pages."""
    if png and out_dir is None:
        raise ValueError("--png needs a folder to draw into: give --out")
    if out_dir is not None:
        _check_output_folder(out_dir)
    from fourier_circuits.reproduction import reproduce as measure
    from fourier_circuits.training.run import Run, bundled_run

    result = measure(Run.open(run or bundled_run()), epoch)
    show_reproduction(result)
    if json_file is not None:
        _write(json_file, _json(result.to_dict()))
        typer.echo(f"wrote {json_file}")
    if out_dir is not None:
        _write_report(result, out_dir, png)


@app.command()
def report(
    run: Annotated[Optional[Path], typer.Argument(help="A run's folder; the bundled run, if left out.")] = None,
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for the report.")] = Path("report"),
    png: PNG = False,
    epoch: EPOCH = None,
) -> None:
    """Write the report of a run, a folder of pages that opens by double click, without printing the table."""
    _check_output_folder(out_dir)
    from fourier_circuits.reproduction import reproduce as measure
    from fourier_circuits.training.run import Run, bundled_run

    _write_report(measure(Run.open(run or bundled_run()), epoch), out_dir, png)


@app.command()
def analyse(checkpoint: CHECKPOINT, epoch: EPOCH = None, p: MODULUS = None, as_json: AS_JSON = False) -> None:
    """Say what is inside a network: key frequencies, neurons, heads, read-off, losses."""
    from fourier_circuits.anatomy import anatomy

    model, task, train = _loaded(checkpoint, epoch, p)
    result = anatomy(model, task=task, train=train)
    typer.echo(_json(result.to_dict())) if as_json else show_anatomy(result)


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
        show_rows(result.to_frame().to_dict(orient="records"), ["freqs", "loss", "accuracy", "change"])
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
    seeds: Annotated[Optional[str], typer.Option(help="Several runs side by side, as in 0:8 or 0,3,5.")] = None,
    p: Annotated[Optional[int], typer.Option("--p", help="The modulus.")] = None,
    operation: Annotated[Optional[str], typer.Option(help="add or subtract.")] = None,
    train_fraction: Annotated[Optional[float], typer.Option(help="Share of the pairs trained on.")] = None,
    weight_decay: Annotated[Optional[float], typer.Option(help="AdamW's.")] = None,
    learning_rate: Annotated[Optional[float], typer.Option(help="AdamW's.")] = None,
    layers: Annotated[Optional[int], typer.Option(help="Transformer blocks.")] = None,
    engine: Annotated[str, typer.Option(help="factored (exact and fast), plain, or auto.")] = "auto",
    until: Annotated[str, typer.Option(help="finished, or grokked: stop when cleanup is over.")] = "finished",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    compiled: Annotated[bool, typer.Option("--compile", help="Compile, where there is a C++ compiler.")] = False,
    tf32: Annotated[bool, typer.Option("--tf32", help="On a GPU: faster products of 10 bits.")] = False,
    measure_every: Annotated[int, typer.Option(help="Measures while training (live.csv); 0 takes none.")] = 250,
    checkpoint_every: Annotated[int, typer.Option(help="Keep the weights of every so many epochs.")] = 100,
    keep: Annotated[int, typer.Option(help="After measuring, keep so many telling checkpoints; 0 keeps all.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    log: Annotated[str, typer.Option(help="bar (lines where there is no terminal), jsonl, or none.")] = "bar",
) -> None:
    """Train a model into a run's folder (or several, with --seeds), then take the progress measures."""
    if preset != "paper":
        raise ValueError(f"unknown preset {preset!r}; known is: paper")
    if log not in ("bar", "jsonl", "none"):
        raise ValueError(f"--log must be bar, jsonl or none, got {log!r}")
    from fourier_circuits.dynamics import LiveMeasures
    from fourier_circuits.model.config import ModelConfig
    from fourier_circuits.training.config import Hardware, RunConfig
    from fourier_circuits.training.record import record_many, resume_point
    from fourier_circuits.training.run import Run
    from fourier_circuits.training.train import DivergedError, choose_engine, train_many

    chosen = {
        "epochs": epochs, "seed": seed, "operation": operation, "train_fraction": train_fraction,
        "weight_decay": weight_decay, "learning_rate": learning_rate,
    }  # fmt: skip
    sizes = {name: value for name, value in {"p": p, "n_layers": layers}.items() if value is not None}
    options: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    if resume:
        if options or sizes or seeds:
            given = [*options, *sizes, *(["seeds"] if seeds else [])]
            raise ValueError(f"--resume goes on with the run as it is: leave {', '.join(given)} out")
        runs = [Run.open(out_dir)]
        start = [resume_point(runs[0])]
        hardware = Hardware(**runs[0].about.get("hardware", {}))
        if start[0].epoch >= runs[0].config.epochs:
            raise ValueError(f"{str(out_dir)!r} has reached its last epoch, {start[0].epoch}: nothing to go on with")
    else:
        if seeds and seed is not None:
            raise ValueError("give --seed or --seeds, not both")
        model = ModelConfig.paper(**sizes)
        several: list[dict[str, Any]] = [{"seed": s} for s in _seeds(seeds)] if seeds else [{}]
        configs = [RunConfig(model=model, **options | own) for own in several]
        used, hardware = choose_engine(configs[0], engine), Hardware(device, compiled, tf32)
        folders = [out_dir / f"seed-{c.seed}" for c in configs] if seeds else [out_dir]
        runs = [Run.create(folder, config, used, hardware) for folder, config in zip(folders, configs, strict=True)]
        start = None
    kind, seeds_of = runs[0].about["engine"], ", ".join(str(run.config.seed) for run in runs)
    typer.echo(f"{out_dir}: {kind} engine, p={runs[0].config.model.p}, seed {seeds_of}", err=True)
    steps = train_many([run.config for run in runs], kind, until, start, hardware)
    live = {run.config: LiveMeasures(run, measure_every) for run in runs}
    try:
        with ExitStack() as held:
            for run in runs:
                held.enter_context(run.locked())
            recorded = held.enter_context(closing(record_many(runs, steps, checkpoint_every)))
            ended = show_training(recorded, live, runs[0].config.epochs, start[0].epoch if start else 0, log)
    except KeyboardInterrupt:
        how = f"fourier-circuits train --out {runs[0].path} --resume"
        typer.echo(f"stopped and saved; go on with: {how}", err=True)
        raise typer.Exit(130) from None
    for run, last in zip(runs, (ended[run.config] for run in runs), strict=True):
        losses = f"train loss {last.train_loss:.3g}, test loss {last.test_loss:.3g}"
        typer.echo(f"{run.path}: {last.stopped} at epoch {last.epoch}: {losses}", err=True)
        if (last.stopped or "").startswith("diverged"):
            raise DivergedError(last)
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


def _write_report(result: "Reproduction", folder: Path, png: bool) -> None:
    from fourier_circuits.report.page import write_report

    _write(folder / "claims.json", _json(result.to_dict()))
    _write(folder / "claims.csv", result.to_frame().to_csv())
    first = write_report(result, folder, png)
    typer.echo(f"open {first} in a browser (claims.csv and claims.json are beside it)")


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
