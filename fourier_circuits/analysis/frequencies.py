"""Which frequency each neuron, weight matrix and logit turns with, and which frequencies a network uses.

Four rules find *key frequencies*; each is a function from its evidence (a number per frequency) to frequencies:

- `neurons`: the block of k explains more than 85% of the variance of at least 1% of the neurons;
- `neuron_logit_map` and `embedding`: k stands out of the Fourier spectrum of W_L or W_E;
- `excluded_loss`: removing k's sum directions from the logits multiplies the loss.

All of them find nothing in a network that has only memorised.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from fourier_circuits.analysis.losses import excluded_loss_each, full_loss
from fourier_circuits.arrays import AnswerGrid, LogitGrid, NeuronGrid
from fourier_circuits.fourier.basis import fourier_basis
from fourier_circuits.fourier.grid import power_per_frequency, variance

Rule = str
"""One of the four above."""

NEURON_SHARE = 0.85
"""A neuron belongs to a frequency that explains more than this share of its variance (section 4.3 of the paper)."""


class KeyFrequencies(tuple[int, ...]):
    """Key frequencies, in ascending order: a tuple of ints that carries its evidence."""

    rule: Rule
    criterion: str
    """The rule in words, with its thresholds."""
    evidence: pd.DataFrame
    """One row per frequency 1..p//2, what the rule looked at, and whether it is `key`."""

    def __new__(cls, rule: Rule, criterion: str, evidence: pd.DataFrame) -> "KeyFrequencies":
        """The frequencies that the evidence calls key."""
        self = super().__new__(cls, (int(k) for k in evidence.index[evidence["key"].to_numpy()]))
        self.rule, self.criterion, self.evidence = rule, criterion, evidence
        return self

    def __getnewargs__(self) -> tuple[Any, ...]:
        return (self.rule, self.criterion, self.evidence)

    def __repr__(self) -> str:
        found = ", ".join(map(str, self)) if self else "none: no Fourier circuit by this rule"
        return f"KeyFrequencies({found}; by {self.rule}: {self.criterion})"

    def _repr_html_(self) -> str:
        return f"<p>{self!r}</p>" + self.evidence[self.evidence["key"]].to_html(float_format="{:.4g}".format)


@dataclass(frozen=True, eq=False)
class NeuronFrequencies:
    """The frequency of each neuron: the one whose block explains most of its variance over (a, b)."""

    frequency: Tensor
    """(neuron,), 0 for a neuron that never changes."""
    share: Tensor
    """(neuron,): the fraction of variance explained by that frequency's block."""
    by_frequency: Tensor
    """(frequency, neuron): the same for every frequency."""

    def cluster(self, k: int, share: float = NEURON_SHARE) -> Tensor:
        """Indices of the neurons that k explains to more than `share`."""
        return ((self.frequency == k) & (self.share > share)).nonzero().flatten()

    def clusters(self, share: float = NEURON_SHARE) -> dict[int, Tensor]:
        """Every frequency that has such neurons, with their indices."""
        ks = self.frequency[self.share > share].unique().tolist()
        return {k: self.cluster(k, share) for k in ks}


def neuron_frequencies(neurons: NeuronGrid) -> NeuronFrequencies:
    """Centre each neuron over the grid and share its variance out to the blocks of the frequencies.

    *Source:* section 4.3. *Differs:* the top frequency p // 2 is among the candidates.
    """
    basis = fourier_basis(neurons.shape[0])
    total = variance(neurons)
    alive = total > 1e-24 * neurons.square().sum(dim=(0, 1))
    shares = torch.where(alive, power_per_frequency(neurons, basis) / total, torch.zeros_like(total))
    best, k = shares.max(dim=0)
    return NeuronFrequencies(torch.where(alive, k + 1, 0), best, shares)


def neuron_phases(neurons: NeuronGrid, found: NeuronFrequencies) -> Tensor:
    """The phase of each neuron's wave in radians: phi of cos(w_k a - phi) + cos(w_k b - phi), (neuron,).

    Taken from the linear terms in a and in b of its own frequency; 0 for a neuron that never changes.
    """
    basis = fourier_basis(neurons.shape[0])
    linear = basis.vectors @ (neurons.sum(dim=1) + neurons.sum(dim=0))
    phase = torch.zeros_like(found.share)
    for n, k in enumerate(found.frequency.tolist()):
        parts = [linear[i, n] for i in basis.components(k)] if k else []
        if parts:
            phase[n] = torch.atan2(parts[1] if len(parts) > 1 else torch.zeros_like(parts[0]), parts[0])
    return phase


def component_norms(matrix: Tensor) -> Tensor:
    """Norms of the Fourier components of a matrix whose first axis is a residue: (component,), the constant first.

    Apply it to W_E (number, model), to W_L transposed (answer, neuron), to W_U transposed (answer, model).

    *Source:* figure 3 of the paper.
    """
    return (fourier_basis(matrix.shape[0]).vectors @ matrix.flatten(1)).norm(dim=1)


def power_shares(matrix: Tensor) -> Tensor:
    """The share of each frequency in the variance of such a matrix along its first axis: (frequency,), sum 1."""
    basis = fourier_basis(matrix.shape[0])
    power = basis.summed_per_frequency(component_norms(matrix).square())
    return power / power.sum()


def key_by_neurons(neurons: NeuronGrid, share: float = NEURON_SHARE, at_least: float = 0.01) -> KeyFrequencies:
    """Frequencies that explain more than `share` of the variance of at least a part `at_least` of the neurons.

    At least one neuron; 5 of the paper's 512. During cleanup single neurons still turn with frequencies that the logits
    no longer use (removing those changes no loss), so one neuron is not enough evidence.
    """
    count = max(1, int(at_least * neurons.shape[2]))
    found = neuron_frequencies(neurons)
    clusters = found.clusters(share)
    ks = range(1, len(found.by_frequency) + 1)
    evidence = _table(
        neurons=[len(clusters.get(k, ())) for k in ks],
        best_share=found.by_frequency.amax(dim=1).tolist() if found.by_frequency.shape[1] else [0.0] * len(ks),
    )
    evidence["key"] = evidence["neurons"] >= count
    criterion = f"explains over {share:.0%} of the variance of at least {count} of {neurons.shape[2]} neurons"
    return KeyFrequencies("neurons", criterion, evidence)


def key_by_spectrum(
    matrix: Tensor, rule: Rule, relative_norm: float = 1 / 3, over_flat: float = 2.0, jointly: float = 1 / 3
) -> KeyFrequencies:
    """Frequencies that stand out of the spectrum of a matrix whose first axis is a residue.

    A frequency stands out whose norm is at least `relative_norm` of the largest and whose share of the power is at
    least `over_flat` times that of a flat spectrum (or a tenth, where there are few frequencies). A spectrum in which
    more than half of all frequencies stand out, or whose outstanding ones hold less than `jointly` of the power, has
    no key frequencies.

    *Source:* sections 4.1 and C.2 look at the same spectra without naming a threshold.
    """
    shares = power_shares(matrix)
    least = min(over_flat / len(shares), 0.1)
    chosen = (shares >= relative_norm**2 * shares.max()) & (shares >= least)
    sparse = int(chosen.sum()) <= (len(shares) + 1) // 2 and shares[chosen].sum().item() >= jointly
    evidence = _table(share=shares.tolist(), relative_norm=(shares / shares.max()).sqrt().tolist())
    evidence["key"] = chosen.tolist() if sparse else [False] * len(shares)
    criterion = (
        f"norm at least {relative_norm:.2g} of the largest and over {least:.2g} of the power; together at least "
        f"{jointly:.2g} of it, and at most half of all frequencies"
    )
    return KeyFrequencies(rule, criterion, evidence)


def key_by_excluded_loss(logits: LogitGrid, answers: AnswerGrid, times: float = 10.0) -> KeyFrequencies:
    """Frequencies whose removal from the logits multiplies the loss over all pairs at least `times`.

    *Source:* footnote 3 of the paper (excluded loss of each frequency), which names no threshold.
    """
    full = full_loss(logits, answers)
    losses = excluded_loss_each(logits, answers, fourier_basis(logits.shape[0]).frequencies)
    evidence = _table(excluded_loss=list(losses.values()), over_full=[loss / full for loss in losses.values()])
    evidence["key"] = evidence["over_full"] >= times
    criterion = f"its removal makes the loss over all pairs {times:g} times larger"
    return KeyFrequencies("excluded_loss", criterion, evidence)


def _table(**columns: Iterable[float]) -> pd.DataFrame:
    frame = pd.DataFrame(columns)
    frame.index = pd.RangeIndex(1, len(frame) + 1, name="frequency")
    return frame
