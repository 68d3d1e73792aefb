"""The commands about a trained network: parse, call, print, write."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from fourier_circuits.cli.display import show_anatomy, show_reproduction, show_rows

if TYPE_CHECKING:
    from fourier_circuits.reproduction import Reproduction

CHECKPOINT = Annotated[Path, typer.Argument(help="A run's folder, or a checkpoint file in any known format.")]
EPOCH = Annotated[Optional[int], typer.Option(help="Which checkpoint of a run; the last, if left out.")]
AS_JSON = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
MODULUS = Annotated[Optional[int], typer.Option("--p", help="The modulus, if it cannot be told from the model.")]
HEADS = Annotated[
    Optional[int], typer.Option("--n-heads", help="Of a state dict of TransformerLens 4, which does not say.")
]
PNG = Annotated[bool, typer.Option("--png", help="Also every figure as PNG; needs kaleido and a Chromium.")]


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


def analyse(
    checkpoint: CHECKPOINT, epoch: EPOCH = None, p: MODULUS = None, n_heads: HEADS = None, as_json: AS_JSON = False
) -> None:
    """Say what is inside a network: key frequencies, neurons, heads, read-off, losses."""
    from fourier_circuits.anatomy import anatomy

    model, task, train = _loaded(checkpoint, epoch, p, n_heads)
    result = anatomy(model, task=task, train=train)
    typer.echo(_json(result.to_dict())) if as_json else show_anatomy(result)


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
    n_heads: HEADS = None,
    as_json: AS_JSON = False,
) -> None:
    """Remove frequencies inside a network (or keep only them) and print what it costs."""
    from fourier_circuits.ablation import ablate as apply
    from fourier_circuits.identification import key_frequencies

    model, task, train = _loaded(checkpoint, epoch, p, n_heads)
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


def _loaded(path: Path, epoch: int | None, p: int | None, n_heads: int | None) -> tuple[Any, Any, Any]:
    """Model, task and training pairs of what was named; task and pairs are known for a run only."""
    from fourier_circuits.model.formats import load_model
    from fourier_circuits.task import ModularAddition
    from fourier_circuits.training.run import Run

    if path.is_dir() and (path / "config.json").is_file():
        run = Run.open(path)
        task = run.task if p is None else ModularAddition(p, run.config.operation)
        return run.model(epoch), task, run.train_pairs if p is None else None
    return load_model(path, epoch, n_heads), None if p is None else ModularAddition(p), None


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
