"""A run: a folder that survives.

    config.json                         everything that decided it, the versions, the engine
    losses.csv                          epoch, train_loss (every epoch), test_loss and accuracies (logged epochs)
    live.csv                            measures taken while it trained
    measures.csv                        all progress measures, taken afterwards
    checkpoints/epoch-000100.safetensors
    resume/epoch-000500.safetensors     weights and AdamW's moments, the last two

Every file is written whole or not at all, and one process at a time may train in a folder.
"""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from fourier_circuits.arrays import PairMask
from fourier_circuits.model.formats import (
    checkpoint_at,
    checkpoint_epochs,
    checkpoint_path,
    load_model,
    load_state,
    write_whole,
)
from fourier_circuits.model.state import State
from fourier_circuits.task import ModularAddition
from fourier_circuits.training.config import CPU, Hardware, RunConfig, Schedule

FORMAT = 1


def bundled_run() -> Path:
    """The project's own trained run: in the installed package, or in the repository beside it."""
    here = Path(__file__).parents[1]
    return next((path for path in (here / "data", here.parent / "data") if path.is_dir()), here / "data") / "mainline"


class RunLockedError(RuntimeError):
    """Another process trains in this folder."""


@dataclass(frozen=True)
class Run:
    """A run on disk."""

    path: Path
    config: RunConfig
    about: dict[str, Any]
    """How it was made: versions, engine, git commit; the rest of config.json."""

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Run":
        """An existing run.

        Raises:
            FileNotFoundError: no such folder, or no config.json in it.
            ValueError: a config.json that is not a run's.
        """
        path = Path(path)
        file = path / "config.json"
        if not file.is_file():
            what = "has no config.json" if path.is_dir() else "does not exist"
            raise FileNotFoundError(f"no run at {str(path)!r}: it {what}; give a folder that `train` made")
        try:
            values = json.loads(file.read_text())
            return cls(path, RunConfig.from_dict(values.pop("run")), values)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{str(file)!r} is not a run's configuration: {error}") from None

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        config: RunConfig,
        engine: str = "auto",
        hardware: Hardware = CPU,
        schedule: Schedule | None = None,
    ) -> "Run":
        """A new run in a folder that does not exist yet, or is empty.

        Raises:
            FileExistsError: the folder holds something.
        """
        path = Path(path)
        if path.exists() and (not path.is_dir() or any(file.name != ".lock" for file in path.iterdir())):
            raise FileExistsError(f"{str(path)!r} exists already: give another folder, or resume the run in it")
        about = {
            "format": FORMAT, "engine": engine, "hardware": asdict(hardware),
            "schedule": asdict(schedule or Schedule()), "versions": _versions(), "git_commit": _git_commit(),
        }  # fmt: skip
        run = cls(path, config, about)
        write_whole(path / "config.json", json.dumps({**about, "run": config.to_dict()}, indent=1).encode())
        return run

    @property
    def schedule(self) -> Schedule:
        """When it stops and what is kept of it."""
        return Schedule(**self.about.get("schedule", {}))

    @property
    def hardware(self) -> Hardware:
        """What it trains on."""
        return Hardware(**self.about.get("hardware", {}))

    @property
    def task(self) -> ModularAddition:
        """What it trains on."""
        return self.config.task()

    @property
    def train_pairs(self) -> PairMask:
        """True for the pairs it trains on."""
        return self.task.split(self.config.train_fraction, self.config.seed)

    @property
    def epochs(self) -> list[int]:
        """The epochs that have a checkpoint, ascending."""
        return checkpoint_epochs(self.path)

    def model(self, epoch: int | None = None) -> Any:
        """The `HookedTransformer` of an epoch (the last checkpoint, if None).

        Raises:
            FileNotFoundError: no checkpoint there; the nearest are named.
            ValueError: a checkpoint that is not whole.
        """
        return load_model(self.path, epoch)

    def state(self, epoch: int | None = None) -> State:
        """The weights of an epoch, without building a model."""
        return load_state(checkpoint_at(self.path, epoch))[0]

    def checkpoints(self) -> Iterator[tuple[int, Any]]:
        """(epoch, model) of every checkpoint, one in memory at a time."""
        for epoch in self.epochs:
            yield epoch, self.model(epoch)

    def losses(self) -> pd.DataFrame:
        """One row per epoch: train_loss; test_loss, train_accuracy, test_accuracy where logged, else NaN."""
        return self._table("losses.csv", "the run has not been trained yet")

    def measures(self) -> pd.DataFrame:
        """The stored progress measures, indexed by epoch."""
        return self._table("measures.csv", "take them with `fourier-circuits measure`")

    def live_measures(self) -> pd.DataFrame | None:
        """The measures taken while it trained, indexed by epoch; None where none were."""
        file = self.path / "live.csv"
        return read_table(file) if file.is_file() else None

    def save_live_measures(self, frame: pd.DataFrame) -> None:
        """Store the measures taken so far."""
        write_table(self.path / "live.csv", frame)

    def thin(self, epochs: Collection[int]) -> None:
        """Keep the checkpoints of these epochs only, and nothing to resume from: a finished run to give away."""
        for epoch in set(self.epochs) - set(epochs):
            checkpoint_path(self.path, epoch).unlink()
        shutil.rmtree(self.path / "resume", ignore_errors=True)

    def save_measures(self, frame: pd.DataFrame) -> None:
        """Store progress measures; rows already stored for other epochs stay, if they measure the same things."""
        file = self.path / "measures.csv"
        if file.is_file() and (stored := read_table(file)).columns.equals(frame.columns):
            frame = pd.concat([stored.drop(index=frame.index, errors="ignore"), frame]).sort_index()
        write_table(file, frame)

    def _table(self, name: str, advice: str) -> pd.DataFrame:
        if not (self.path / name).is_file():
            raise FileNotFoundError(f"run {str(self.path)!r} has no {name}: {advice}")
        return read_table(self.path / name)

    def locked(self) -> FileLock:
        """A lock on the folder, to be held while training in it; the system frees it when its holder dies.

        Raises:
            RunLockedError: another process holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RunLockedError(
                f"{str(self.path)!r} is being trained by another process: wait for it, or give another folder"
            ) from None
        return lock


def _versions() -> dict[str, str]:
    packages = ("fourier-circuits", "torch", "transformer-lens")
    found = {"python": platform.python_version()}
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _git_commit() -> str | None:
    """The commit of the package's own checkout, if it runs from one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """A table as CSV, whole or not at all; floats keep every digit."""
    write_whole(path, frame.to_csv(lineterminator="\n").encode())


def read_table(path: Path) -> pd.DataFrame:
    """What `write_table` wrote, every digit; indexed by epoch.

    Raises:
        ValueError: a file that is not such a table.
    """
    try:
        text = pd.read_csv(path, dtype=str)
        return text.astype(float).astype({"epoch": int}).set_index("epoch")
    except (ValueError, KeyError) as error:
        raise ValueError(f"{str(path)!r} is not a table of numbers by epoch: {error}") from None
