"""Writing a run while it trains, and going on with one that was cut off."""

import warnings
from collections.abc import Generator, Iterable
from pathlib import Path

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from fourier_circuits.model.formats import checkpoint_path, save_state, write_whole
from fourier_circuits.training.run import Run, write_table
from fourier_circuits.training.train import Checkpoint

_LOGGED = ("test_loss", "train_accuracy", "test_accuracy")


def record(
    run: Run, checkpoints: Iterable[Checkpoint], checkpoint_every: int = 100, save_every: int = 500
) -> Generator[Checkpoint]:
    """Write checkpoints to a run's folder as they pass by.

    The losses and what resuming needs are written every `save_every` epochs, and in any case when training ends, fails,
    or its consumer stops early.

    Args:
        run: where to.
        checkpoints: as `train` yields them.
        checkpoint_every: keep the weights of every so many epochs, and the last.
        save_every: see above.
    """
    losses = _Losses(run)
    last, saved = None, -1
    try:
        for last in checkpoints:
            losses.add(last)
            if last.epoch % checkpoint_every == 0 or last.stopped:
                path = checkpoint_path(run.path, last.epoch)
                save_state(path, last.state, run.config.model, {"epoch": last.epoch})
            if last.epoch % save_every == 0 or last.stopped:
                _save(run, last, losses)
                saved = last.epoch
            yield last
    finally:
        if last is not None and last.epoch != saved:
            _save(run, last, losses)


def resume_point(run: Run) -> Checkpoint:
    """The newest whole resume file of a run; a broken one is passed over with a warning.

    Raises:
        FileNotFoundError: there is none.
    """
    files = sorted((run.path / "resume").glob("epoch-*.safetensors"), reverse=True)
    for file in files:
        try:
            return _read(run, file)
        except (SafetensorError, ValueError, KeyError, OSError) as error:
            warnings.warn(f"{str(file)!r} is not whole ({error}); going back to the one before", stacklevel=2)
    raise FileNotFoundError(
        f"run {str(run.path)!r} has nothing whole to resume from: {len(files)} resume files, none readable"
        if files
        else f"run {str(run.path)!r} has nothing to resume from: it was never started, or its resume folder is gone"
    )


class _Losses:
    """The table losses.csv, growing."""

    def __init__(self, run: Run) -> None:
        self.path = run.path / "losses.csv"
        self.train: list[float] = []
        self.logged: dict[int, tuple[float, ...]] = {}
        if self.path.is_file():
            frame = run.losses()
            self.train = frame["train_loss"].tolist()
            logged = frame.dropna(subset=["train_accuracy"])
            self.logged = dict(zip(logged.index, logged[list(_LOGGED)].itertuples(index=False, name=None), strict=True))

    def add(self, checkpoint: Checkpoint) -> None:
        """Append the epochs since the last checkpoint; whatever was known beyond them is forgotten."""
        start = checkpoint.epoch - len(checkpoint.passed_losses)
        self.train = [*self.train[:start], *checkpoint.passed_losses, checkpoint.train_loss]
        self.logged = {epoch: row for epoch, row in self.logged.items() if epoch < checkpoint.epoch}
        self.logged[checkpoint.epoch] = tuple(getattr(checkpoint, name) for name in _LOGGED)

    def write(self) -> None:
        frame = pd.DataFrame({"train_loss": self.train}).rename_axis("epoch")
        logged = pd.DataFrame.from_dict(self.logged, orient="index", columns=list(_LOGGED))
        write_table(self.path, frame.join(logged))


def _save(run: Run, checkpoint: Checkpoint, losses: _Losses) -> None:
    """The losses first, then the resume file: a crash in between leaves rows too many, which `add` forgets."""
    losses.write()
    folder = run.path / "resume"
    tensors = {f"state.{name}": tensor for name, tensor in checkpoint.state.items()}
    tensors |= {"mean": checkpoint.moments[0], "square": checkpoint.moments[1]}
    scalars = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
    metadata = {name: repr(getattr(checkpoint, name)) for name in scalars}
    metadata |= {"epoch": str(checkpoint.epoch), "stopped": checkpoint.stopped or ""}
    write_whole(folder / f"epoch-{checkpoint.epoch:06d}.safetensors", save(tensors, metadata))
    for old in sorted(folder.glob("epoch-*.safetensors"))[:-2]:
        old.unlink()


def _read(run: Run, file: Path) -> Checkpoint:
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
        tensors: dict[str, torch.Tensor] = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    return Checkpoint(
        config=run.config,
        epoch=int(metadata["epoch"]),
        state={name.removeprefix("state."): t for name, t in tensors.items() if name.startswith("state.")},
        moments=(tensors["mean"], tensors["square"]),
        train_loss=float(metadata["train_loss"]),
        train_accuracy=float(metadata["train_accuracy"]),
        test_loss=float(metadata["test_loss"]),
        test_accuracy=float(metadata["test_accuracy"]),
        stopped=metadata["stopped"] or None,
    )
