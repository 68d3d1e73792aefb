"""`progress_measures(run)`: how the circuit forms, checkpoint by checkpoint."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from fourier_circuits.analysis.frequencies import key_by_spectrum
from fourier_circuits.analysis.losses import excluded_loss, restricted_loss
from fourier_circuits.analysis.progress import ProgressMeasures, checkpoint_measures, phases
from fourier_circuits.arrays import PairMask
from fourier_circuits.fourier.basis import checked_frequencies
from fourier_circuits.identification import key_frequencies
from fourier_circuits.model.lens import task_of
from fourier_circuits.model.read import read_logits, read_weights, weights_of
from fourier_circuits.task import GridTask
from fourier_circuits.training.run import Run
from fourier_circuits.training.train import Checkpoint


def progress_measures(
    checkpoints: Run | Iterable[tuple[int, Any]],
    *,
    freqs: Iterable[int] | None = None,
    train: PairMask | None = None,
    task: GridTask | None = None,
) -> ProgressMeasures:
    """Every progress measure of every checkpoint; one model is in memory at a time.

    Args:
        checkpoints: a `Run`, or pairs of an epoch and a model, epochs ascending.
        freqs: the key frequencies to restrict to and exclude, the same at every checkpoint; of a run, those of its last
            checkpoint, if None.
        train: the training pairs; of a run, its own, if None.
        task: what the models are trained on; of a run, its own; else modular addition, if None.

    Raises:
        ValueError: models without `freqs` or `train`; a run whose last checkpoint has no key frequencies.

    *Source:* section 5.1 of the paper; as in its figures, the key frequencies are the final model's at every epoch.
    """
    if isinstance(checkpoints, Run):
        run = checkpoints
        task, train = task or run.task, run.train_pairs if train is None else train
        if freqs is None:
            freqs = key_frequencies(run.model(), task=task)
            if not freqs:
                raise ValueError(
                    f"the last checkpoint of {str(run.path)!r} has no key frequencies ({freqs!r}): pass freqs=..."
                )
        checkpoints = run.checkpoints()
    if freqs is None or train is None:
        raise ValueError("models by themselves do not say what was trained on, nor where it ends: pass freqs and train")
    frequencies = tuple(freqs)
    frame = pd.DataFrame.from_dict(dict(_rows(checkpoints, frequencies, train, task)), orient="index")
    return ProgressMeasures(frame.rename_axis("epoch"), frequencies)


def telling_epochs(frame: pd.DataFrame, count: int) -> list[int]:
    """At most so many epochs of a table of measures, spaced evenly along the curves more than along time.

    The curves (log losses, log squared weights, accuracies) are scaled to a range of 1 each; the first and the last
    epoch are always among them. Between two neighbours equally much happens.
    """
    losses = ["train_loss", "test_loss", "restricted_loss", "excluded_loss", "squares_total"]
    curves = np.column_stack([np.log(frame[losses].clip(lower=1e-12)), frame[["test_accuracy", "restricted_accuracy"]]])
    spread = np.ptp(curves, axis=0)
    curves = curves[:, spread > 0] / spread[spread > 0]
    path = np.concatenate([[0.0], np.abs(np.diff(curves, axis=0)).sum(axis=1).cumsum()])
    path += np.linspace(0, 0.4 * path[-1], len(path))
    chosen: list[int] = []
    for spaced in range(2, 3 * count):
        finer = sorted({int(frame.index[np.abs(path - at).argmin()]) for at in np.linspace(0, path[-1], spaced)})
        if len(finer) > count:
            break
        chosen = finer
    return chosen


class LiveMeasures:
    """Measures taken while a run trains: what `phases` needs, with the frequencies that stand out of W_L *then*.

    `progress_measures` afterwards takes all of them, with the frequencies of the final model, as the paper does.

    Args:
        run: its folder keeps them as live.csv; a run that is resumed goes on with what is there.
        every: how many epochs apart; a multiple of the run's `log_every`. 0 takes none.

    Raises:
        ValueError: epochs that the run does not log.
    """

    def __init__(self, run: Run, every: int) -> None:
        if every < 0 or every % run.config.log_every:
            raise ValueError(
                f"measures can be taken every {run.config.log_every} epochs or a multiple of that, got {every}"
            )
        self.run, self.every = run, every
        stored = run.live_measures()
        self.rows: dict[int, dict[str, float]] = {} if stored is None else stored.to_dict(orient="index")  # pyright: ignore
        self.phase = "memorisation"

    def take(self, checkpoint: Checkpoint) -> str:
        """Measure a checkpoint of `train`, if it is due; returns the phase that the run seems to be in."""
        if self.every and checkpoint.epoch % self.every == 0:
            task = checkpoint.config.task()
            weights = weights_of(checkpoint.state, task)
            freqs = key_by_spectrum(weights.neuron_to_logit.T, "neuron_logit_map")
            if freqs:
                logits = read_logits(checkpoint.model(), task)
                self.rows[checkpoint.epoch] = {
                    "frequencies": len(freqs),
                    "train_loss": checkpoint.train_loss,
                    "test_loss": checkpoint.test_loss,
                    "excluded_loss": excluded_loss(logits, task.answers, freqs, where=self.run.train_pairs),
                    "restricted_loss": restricted_loss(logits, task.answers, freqs),
                    "squares_total": sum(weights.squares.values()),
                }
                frame = pd.DataFrame.from_dict(self.rows, orient="index").rename_axis("epoch").sort_index()
                self.run.save_live_measures(frame)
                found = phases(frame)
                named = [
                    ("clean", found.cleanup_ends), ("cleanup", found.circuit_formation_ends),
                    ("circuit formation", found.memorisation_ends), ("memorisation", 0),
                ]  # fmt: skip
                self.phase = next(name for name, since in named if since is not None)
        return self.phase


def _rows(
    checkpoints: Iterable[tuple[int, Any]], freqs: tuple[int, ...], train: PairMask, task: GridTask | None
) -> Iterator[tuple[int, dict[str, float]]]:
    for epoch, model in checkpoints:
        known = task_of(model, task)
        checked_frequencies(freqs, known.p)
        logits, weights = read_logits(model, known), read_weights(model, known)
        yield epoch, checkpoint_measures(logits, weights, known.answers, freqs, train)
