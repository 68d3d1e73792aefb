"""Progress measures of a checkpoint, and the three phases that they show over training.

All losses are float64 cross entropies over the answers' logits (that of `=` dropped).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from fourier_circuits.analysis.circuit import cosine_coefficients, cosine_logits
from fourier_circuits.analysis.frequencies import component_norms
from fourier_circuits.analysis.losses import accuracy, cross_entropy, full_loss, restricted_logits
from fourier_circuits.arrays import AnswerGrid, LogitGrid, PairMask, Weights
from fourier_circuits.fourier.basis import checked_frequencies, fourier_basis
from fourier_circuits.fourier.subspace import sum_subspace


def gini(values: Tensor) -> float:
    """Gini coefficient of non-negative numbers: 0 if all are equal, near 1 if one is alone.

    G = 2 sum_i i x_(i) / (n sum x) - (n + 1) / n over the sorted values. *Source:* Hurley and Rickard 2009.

    >>> gini(torch.tensor([1.0, 1.0, 1.0, 1.0])), gini(torch.tensor([0.0, 0.0, 0.0, 1.0]))
    (0.0, 0.75)
    """
    ordered = values.double().sort().values
    n, total = len(ordered), ordered.sum()
    rank = torch.arange(1, n + 1, dtype=torch.float64)
    return (2 * (rank * ordered).sum() / (n * total) - (n + 1) / n).item() if total > 0 else 0.0


def checkpoint_measures(
    logits: LogitGrid,
    weights: Weights,
    answers: AnswerGrid,
    freqs: Iterable[int],
    train: PairMask,
) -> dict[str, float]:
    """Every progress measure of one checkpoint, by name (docs/definitions.md has them all).

    Args:
        logits, weights: of the checkpoint.
        answers: the right answer of every pair.
        freqs: the key frequencies, the same for all checkpoints of a run (the paper takes the final model's).
        train: the training pairs.

    *Source:* section 5.1 of the paper and appendix C.1.
    """
    ks = checked_frequencies(freqs, logits.shape[0])
    test = ~train
    restricted = restricted_logits(logits, answers, ks)
    restricted_block = restricted_logits(logits, answers, ks, "block")
    row = {
        "train_loss": full_loss(logits, answers, train),
        "test_loss": full_loss(logits, answers, test),
        "all_loss": full_loss(logits, answers),
        "train_accuracy": accuracy(logits, answers, train),
        "test_accuracy": accuracy(logits, answers, test),
        "restricted_loss": full_loss(restricted, answers),
        "restricted_train_loss": full_loss(restricted, answers, train),
        "restricted_test_loss": full_loss(restricted, answers, test),
        "restricted_accuracy": accuracy(restricted, answers),
        "restricted_block_loss": full_loss(restricted_block, answers),
    }
    alphas = cosine_coefficients(logits, answers)
    row |= _excluded(logits, answers, ks, train, alphas)
    row |= {f"cosine_{k}": alpha for k, alpha in enumerate(alphas.tolist(), 1)}
    spectra = {"W_E": weights.embed, "W_L": weights.neuron_to_logit.T, "W_U": weights.unembed.T}
    row |= {f"gini_{name}": gini(component_norms(matrix)[1:]) for name, matrix in spectra.items()}
    row |= {f"squares_{name}": value for name, value in weights.squares.items()}
    return row | {"squares_total": sum(weights.squares.values())}


def _excluded(
    logits: LogitGrid, answers: AnswerGrid, ks: Sequence[int], train: PairMask, alphas: Tensor
) -> dict[str, float]:
    """Excluded losses on the training pairs: all key frequencies together and one at a time, 2-D and 3-D."""
    p, here, right = logits.shape[0], logits[train], answers[train]
    row: dict[str, float] = {}
    for name, which in [("", list(ks)), *((f"_{k}", [k]) for k in ks)]:
        subspace = sum_subspace(fourier_basis(p), which, answers)
        flat = subspace.removed_at(logits, train)
        cube = here - cosine_logits(alphas[[k - 1 for k in which]], which, right, p)
        row |= {
            f"excluded{name}_loss": cross_entropy(flat, right),
            f"excluded_3d{name}_loss": cross_entropy(cube, right),
        }
        if not name:
            row["excluded_accuracy"] = (flat.argmax(dim=-1) == right).double().mean().item()
    return row


@dataclass(frozen=True, eq=False)
class ProgressMeasures:
    """The progress measures of a run: one row per checkpoint, epochs ascending."""

    frame: pd.DataFrame
    """Index `epoch`; columns as `checkpoint_measures` names them."""
    freqs: tuple[int, ...]
    """The key frequencies that the restricted and excluded losses took."""

    def __post_init__(self) -> None:
        if not self.frame.index.is_monotonic_increasing or self.frame.index.has_duplicates:
            raise ValueError("progress measures need one row per epoch, in ascending order")

    def to_frame(self) -> pd.DataFrame:
        """The table itself."""
        return self.frame


@dataclass(frozen=True)
class Phases:
    """The phases of grokking; each boundary is an epoch, None where the run does not reach it."""

    memorisation_ends: int | None
    circuit_formation_ends: int | None
    cleanup_ends: int | None

    criterion = (
        "memorisation ends where the excluded loss on the training pairs is least after the training loss first falls "
        "below 0.1; circuit formation ends where the restricted loss over all pairs first falls below 0.01; cleanup "
        "ends where the sum of squared weights comes within 5% of its last value for good, for at least a tenth of the "
        "run"
    )

    def __str__(self) -> str:
        ends = {
            "memorisation": self.memorisation_ends,
            "circuit formation": self.circuit_formation_ends,
            "cleanup": self.cleanup_ends,
        }
        return ", ".join(f"{name} not over" if end is None else f"{name} to {end:,}" for name, end in ends.items())


def phases(measures: ProgressMeasures | pd.DataFrame) -> Phases:
    """Find the three phases by `Phases.criterion`.

    On the paper's own run the three come out near 1,400, 9,400 and 14,000 epochs, the boundaries that it draws by eye.
    They are looked for in that order: without the first there is no second.

    Args:
        measures: needs train_loss, excluded_loss, restricted_loss and squares_total, indexed by epoch.

    *Source:* section 5.2 names the phases; the criterion is ours, the paper has none.
    """
    frame = measures.frame if isinstance(measures, ProgressMeasures) else measures
    epochs = frame.index.to_numpy()
    fitted = frame["train_loss"].to_numpy() < 0.1
    if not fitted.any():
        return Phases(None, None, None)
    first = int(fitted.argmax())
    formed = frame["restricted_loss"].to_numpy() < 0.01
    formed[: first + 1] = False
    stop = int(formed.argmax()) if formed.any() else len(epochs)
    least = first + int(frame["excluded_loss"].to_numpy()[first:stop].argmin())
    if not formed.any():
        rising = least < len(epochs) - 1
        return Phases(int(epochs[least]) if rising else None, None, None)
    squares = frame["squares_total"].to_numpy()
    settled = np.abs(squares / squares[-1] - 1) <= 0.05
    unsettled = np.flatnonzero(~settled)
    clean = int(unsettled[-1]) + 1 if len(unsettled) else 0
    done = clean > stop and epochs[-1] - epochs[clean] >= epochs[-1] / 10
    return Phases(int(epochs[least]), int(epochs[stop]), int(epochs[clean]) if done else None)
