"""Writing runs while they train, and going on with one that was cut off."""

import json
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


class Recorder:
    """Writes the checkpoints of one run into its folder.

    The losses and what resuming needs are written every `save_every` epochs, at the end, and at `close`.

    Args:
        run: where to.
        checkpoint_every: keep the weights of every so many epochs, and the last.
        save_every: see above.
    """

    def __init__(self, run: Run, checkpoint_every: int = 100, save_every: int = 500) -> None:
        self.run, self.checkpoint_every, self.save_every = run, checkpoint_every, save_every
        self.losses = _Losses(run)
        self.unsaved: Checkpoint | None = None
        for left_by_a_kill in run.path.rglob(".*.tmp"):
            left_by_a_kill.unlink()

    def add(self, checkpoint: Checkpoint) -> None:
        """Take the next checkpoint."""
        self.losses.add(checkpoint)
        self.unsaved = checkpoint
        if checkpoint.epoch % self.checkpoint_every == 0 or checkpoint.stopped:
            path = checkpoint_path(self.run.path, checkpoint.epoch)
            save_state(path, checkpoint.state, self.run.config.model, {"epoch": checkpoint.epoch})
        if checkpoint.epoch % self.save_every == 0 or checkpoint.stopped:
            self.close()

    def close(self) -> None:
        """Write what has not been written."""
        if self.unsaved is not None:
            _save(self.run, self.unsaved, self.losses)
            self.unsaved = None


def record(
    run: Run, checkpoints: Iterable[Checkpoint], checkpoint_every: int = 100, save_every: int = 500
) -> Generator[Checkpoint]:
    """Pass the checkpoints of `train` on, writing them to the run's folder as `Recorder` does.

    Whatever ends it (the last epoch, a failure, a consumer that stops), nothing that came by is lost.
    """
    recorder = Recorder(run, checkpoint_every, save_every)
    try:
        for checkpoint in checkpoints:
            recorder.add(checkpoint)
            yield checkpoint
    finally:
        recorder.close()


def record_many(
    runs: Iterable[Run], steps: Iterable[list[Checkpoint]], checkpoint_every: int = 100, save_every: int = 500
) -> Generator[list[Checkpoint]]:
    """The same for the runs of `train_many`; a checkpoint belongs to the run of its configuration."""
    recorders = {run.config: Recorder(run, checkpoint_every, save_every) for run in runs}
    try:
        for step in steps:
            for checkpoint in step:
                recorders[checkpoint.config].add(checkpoint)
            yield step
    finally:
        for recorder in recorders.values():
            recorder.close()


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
        else f"run {str(run.path)!r} has nothing to resume from: it was never started, or has been thinned"
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
        del self.train[start:]
        self.train += [*checkpoint.passed_losses, checkpoint.train_loss]
        for epoch in [epoch for epoch in reversed(self.logged) if epoch >= checkpoint.epoch]:
            del self.logged[epoch]
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
    metadata["squares"] = json.dumps(checkpoint.squares)
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
        squares=tuple(json.loads(metadata["squares"])),
    )
