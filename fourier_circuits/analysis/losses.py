"""Cross entropy in float64, and the paper's two losses in the Fourier basis of the logits.

- *restricted* loss: keep only the constant and the key frequencies' directions of the logits. Low when the circuit
  alone solves the task.
- *excluded* loss: remove those directions and keep the rest. High when the circuit alone solves the task.

Both leave the mean logit of every answer (the constant) in place. Which pairs (`where`) and which directions are
arguments. *Source:* section 5.1 of the paper and the official `trig_loss`, whose bias correction is the constant here.
"""

from collections.abc import Iterable

import torch
from jaxtyping import jaxtyped
from torch import Tensor

from fourier_circuits.arrays import AnswerGrid, LogitGrid, PairMask
from fourier_circuits.fourier.basis import checked_frequencies, fourier_basis
from fourier_circuits.fourier.subspace import DirectionsName, constant_subspace, frequency_subspace


def cross_entropy(logits: Tensor, answers: Tensor) -> float:
    """Mean of -log softmax(logits)[answer] in float64; the last axis is the answer."""
    log_p = torch.log_softmax(logits.double(), dim=-1)
    return -log_p.gather(-1, answers[..., None]).mean().item()


@jaxtyped(typechecker=None)
def full_loss(logits: LogitGrid, answers: AnswerGrid, where: PairMask | None = None) -> float:
    """The model's loss over the pairs `where` (all, if None) and the answers' logits; NaN over no pair.

    >>> full_loss(torch.zeros(5, 5, 5, dtype=torch.float64), torch.zeros(5, 5, dtype=torch.int64))  # ln 5
    1.6094379124341003
    """
    return cross_entropy(logits, answers) if where is None else cross_entropy(logits[where], answers[where])


@jaxtyped(typechecker=None)
def accuracy(logits: LogitGrid, answers: AnswerGrid, where: PairMask | None = None) -> float:
    """The share of the pairs whose largest logit is the right answer's; NaN over no pair."""
    right = logits.argmax(dim=-1) == answers
    return (right if where is None else right[where]).double().mean().item()


@jaxtyped(typechecker=None)
def restricted_logits(
    logits: LogitGrid, answers: AnswerGrid, freqs: Iterable[int], directions: DirectionsName = "sum"
) -> LogitGrid:
    """The constant and the directions of `freqs`, nothing else."""
    basis = fourier_basis(logits.shape[0])
    return (constant_subspace(basis) + frequency_subspace(basis, freqs, directions, answers)).project(logits)


@jaxtyped(typechecker=None)
def restricted_loss(
    logits: LogitGrid,
    answers: AnswerGrid,
    freqs: Iterable[int],
    *,
    where: PairMask | None = None,
    directions: DirectionsName = "sum",
) -> float:
    """The loss of `restricted_logits`; the paper plots it over all pairs."""
    return full_loss(restricted_logits(logits, answers, freqs, directions), answers, where)


@jaxtyped(typechecker=None)
def excluded_loss(
    logits: LogitGrid,
    answers: AnswerGrid,
    freqs: Iterable[int],
    *,
    where: PairMask | None = None,
    directions: DirectionsName = "sum",
) -> float:
    """The loss with the directions of all of `freqs` removed; the paper plots it over the training pairs."""
    basis = fourier_basis(logits.shape[0])
    subspace = frequency_subspace(basis, freqs, directions, answers)
    if where is None:
        return cross_entropy(subspace.remove(logits), answers)
    return cross_entropy(subspace.removed_at(logits, where), answers[where])


@jaxtyped(typechecker=None)
def excluded_loss_each(
    logits: LogitGrid,
    answers: AnswerGrid,
    freqs: Iterable[int],
    *,
    where: PairMask | None = None,
    directions: DirectionsName = "sum",
) -> dict[int, float]:
    """The excluded loss of each frequency by itself."""
    ks = checked_frequencies(freqs, logits.shape[0])
    return {k: excluded_loss(logits, answers, [k], where=where, directions=directions) for k in ks}


def cosine_cube(p: int, k: int) -> LogitGrid:
    """cos w_k(a + b - c) over all (a, b, c).

    >>> cosine_cube(5, 2)[1, 3, 4].item()  # 1 + 3 - 4 = 0
    1.0
    """
    a = torch.arange(p)
    turns = k * (a[:, None, None] + a[:, None] - a) % p
    return torch.cos(2 * torch.pi * turns.double() / p)
