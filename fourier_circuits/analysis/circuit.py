"""The paper's algorithm as measurable statements about activations and weights.

In the order of the algorithm: attention reads single frequencies (`head_fits`); neurons are degree-2 polynomials of
one frequency (`polynomial_neurons`); the neuron-logit map reads cos and sin of w_k(a+b) off them (`map_residual`,
`read_off`); the logits are a sum of cosines of w_k(a+b-c) (`cosine_fit`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fourier_circuits.analysis.frequencies import NEURON_SHARE, NeuronFrequencies
from fourier_circuits.arrays import (
    AnswerGrid,
    Embedding,
    HeadValues,
    LogitGrid,
    NeuronGrid,
    NeuronLogitMap,
    PatternGrid,
)
from fourier_circuits.fourier.basis import FourierBasis, checked_frequencies, fourier_basis
from fourier_circuits.fourier.grid import transform, variance
from fourier_circuits.fourier.subspace import (
    block_subspace,
    constant_subspace,
    fraction_of_variance_explained,
    sum_subspace,
)


@dataclass(frozen=True)
class HeadFit:
    """A head's attention to a, fitted by one frequency over all pairs."""

    frequency: int
    alpha: float
    """Of cos w_k a - cos w_k b."""
    beta: float
    """Of sin w_k a - sin w_k b."""
    constant: float
    fraction_of_variance_explained: float


def head_fits(attention: PatternGrid, position: int = 0) -> tuple[list[HeadFit], PatternGrid]:
    """Attention to `a` as c + alpha (cos w_k a - cos w_k b) + beta (sin w_k a - sin w_k b), least squares, best k.

    Returns:
        One fit per head, and the pattern that the fits say: (a, b, head, position), the rest of the attention on b.

    *Source:* appendix C.1.3 and table 2.
    """
    basis = fourier_basis(attention.shape[0])
    fits, patterns = [], []
    for head in range(attention.shape[2]):
        weight = attention[:, :, head, position]
        coefficients = transform(weight, basis)
        parts = (_antisymmetric_part(coefficients, basis, k) for k in basis.frequencies)
        k, power, amplitudes = max(parts, key=lambda part: part[1])
        total = variance(weight).item()
        alpha, beta = [*amplitudes, 0.0][:2]
        constant = weight.mean().item()
        fits.append(HeadFit(k, alpha, beta, constant, power / total if total else 0.0))
        angle = 2 * torch.pi * k * torch.arange(basis.p, dtype=torch.float64) / basis.p
        wave = alpha * torch.cos(angle) + beta * torch.sin(angle)
        to_a = constant + wave[:, None] - wave
        patterns.append(torch.stack([to_a, 1 - to_a, torch.zeros_like(to_a)], dim=-1))
    return fits, torch.stack(patterns, dim=2)


def _antisymmetric_part(coefficients: Tensor, basis: FourierBasis, k: int) -> tuple[int, float, list[float]]:
    """Frequency, power, and amplitudes of F(a) - F(b) for the components F of k, from 2-D coefficients."""
    power, amplitudes = 0.0, []
    for i in basis.components(k):
        difference = (coefficients[i, 0] - coefficients[0, i]).item() / 2
        power += 2 * difference**2
        amplitudes.append(difference / basis.p**0.5 * basis.amplitudes[i].item())
    return k, power, amplitudes


def polynomial_neurons(
    neurons: NeuronGrid, found: NeuronFrequencies, share: float = NEURON_SHARE, drop: int | None = None
) -> NeuronGrid:
    """Every neuron above `share` replaced by its projection on the constant and its own frequency's block.

    With `drop`, the cluster of that frequency is replaced by its mean instead.

    *Source:* section 4.4 (degree-2 polynomials).
    """
    basis = fourier_basis(neurons.shape[0])
    replaced = neurons.clone()
    for k, cluster in found.clusters(share).items():
        kept = constant_subspace(basis) if k == drop else constant_subspace(basis) + block_subspace(basis, [k])
        replaced[..., cluster] = kept.project(neurons[..., cluster])
    return replaced


def map_residual(neuron_to_logit: NeuronLogitMap, freqs: Iterable[int]) -> float:
    """The part of W_L outside the cos and sin rows of `freqs`: Frobenius norm of the rest over that of the whole.

    *Source:* section 4.2 (equation 2). The paper's 0.55% may be a ratio of norms or of their squares.
    """
    rows = _rows(neuron_to_logit.shape[1], freqs)
    rest = neuron_to_logit - neuron_to_logit @ rows.T @ rows
    return (rest.norm() / neuron_to_logit.norm()).item()


def read_off_directions(neuron_to_logit: NeuronLogitMap, freqs: Iterable[int]) -> Tensor:
    """u_k and v_k, what W_L reads cos w_k c and sin w_k c off: (neuron, direction), two columns a frequency."""
    return neuron_to_logit @ _rows(neuron_to_logit.shape[1], freqs).T


@dataclass(frozen=True)
class ReadOff:
    """One direction of the neuron-logit map, applied to the neurons of every pair."""

    label: str
    """`cos k` or `sin k`."""
    coefficients: tuple[float, float]
    """The amplitudes of the two largest products of waves, as in 44.6 cos(w_k a) cos(w_k b); not squared, unsigned."""
    terms: tuple[str, str]
    """Which products: `cos k x cos k`, ..."""
    fraction_of_variance_explained: float
    """By the best multiple of cos (or sin) w_k(a+b); centred over (a, b)."""


def read_off(neurons: NeuronGrid, neuron_to_logit: NeuronLogitMap, freqs: Iterable[int]) -> list[ReadOff]:
    """Does u_k^T MLP(a, b) equal cos w_k(a+b), and v_k^T MLP(a, b) sin w_k(a+b), up to a factor?

    *Source:* section 4.2 and table 1.
    """
    basis = fourier_basis(neurons.shape[0])
    ks = list(freqs)
    grids = neurons @ read_off_directions(neuron_to_logit, ks)
    directions = sum_subspace(basis, ks).directions
    amplitudes = transform(grids, basis) * torch.outer(basis.amplitudes, basis.amplitudes)[..., None]
    labels = [basis.labels[i] for k in ks for i in basis.components(k)]
    results = []
    for i, label in enumerate(labels):
        centred = grids[..., i] - grids[..., i].mean()
        explained = (directions[i] * centred).sum() ** 2 / centred.square().sum()
        flat = amplitudes[..., i].clone()
        flat[0, 0] = 0
        values, places = flat.abs().flatten().topk(2)
        terms = [f"{basis.labels[int(at) // basis.p]} x {basis.labels[int(at) % basis.p]}" for at in places]
        results.append(ReadOff(label, (values[0].item(), values[1].item()), (terms[0], terms[1]), explained.item()))
    return results


def on_directions(neurons: NeuronGrid, directions: Tensor) -> NeuronGrid:
    """Neurons projected on the span of (neuron, direction) columns, in neuron space."""
    frame, _ = torch.linalg.qr(directions)
    return neurons @ frame @ frame.T


def with_neurons(
    logits: LogitGrid, neurons: NeuronGrid, instead: NeuronGrid, neuron_to_logit: NeuronLogitMap
) -> LogitGrid:
    """The logits had the neurons been others; everything else as it was (exact without LayerNorm)."""
    return logits + (instead - neurons) @ neuron_to_logit


@dataclass(frozen=True, eq=False)
class CosineFit:
    """Logits as sum_k alpha_k cos w_k(answer(a, b) - c) by least squares over all entries."""

    freqs: tuple[int, ...]
    coefficients: tuple[float, ...]
    fraction_of_variance_explained: float
    """Of the logits, centred over (a, b) for each answer."""
    logits: LogitGrid
    """What the fit says."""


def cosine_coefficients(logits: LogitGrid, answers: AnswerGrid) -> Tensor:
    """alpha_k of every frequency: (frequency,). The cosines are orthogonal, so each is its own least squares.

    *Source:* section 4.2 and figure 14.
    """
    p = logits.shape[0]
    basis = fourier_basis(p)
    by_turn = torch.zeros(p, dtype=logits.dtype).index_add_(0, _turns(answers, p).flatten(), logits.flatten())
    cosines = torch.stack([_cosine(p, k) for k in basis.frequencies])
    return (cosines @ by_turn) / (cosines.square().sum(dim=1) * p * p)


def cosine_fit(logits: LogitGrid, answers: AnswerGrid, freqs: Iterable[int]) -> CosineFit:
    """Fit the logits by the cosines of `freqs`. *Source:* section 4.2 (95% explained, loss 4.7e-8)."""
    ks = checked_frequencies(freqs, logits.shape[0])
    alphas = cosine_coefficients(logits, answers)[[k - 1 for k in ks]]
    fitted = cosine_logits(alphas, ks, answers, logits.shape[0])
    total = variance(logits).sum()
    rest = (logits - logits.mean(dim=(0, 1)) - fitted).square().sum()
    return CosineFit(ks, tuple(alphas.tolist()), (1 - rest / total).item(), fitted)


def cosine_logits(alphas: Tensor, freqs: Sequence[int], answers: Tensor, p: int) -> Tensor:
    """sum_k alpha_k cos w_k(answer - c), for pairs that have these answers: (..., answer)."""
    wave = (alphas[:, None] * torch.stack([_cosine(p, k) for k in freqs])).sum(dim=0)
    return wave[_turns(answers, p)]


def embedding_planes(embed: Embedding, freqs: Iterable[int]) -> Tensor:
    """For each frequency two orthonormal directions of the stream, that W_E writes cos w_k n and sin w_k n along.

    Returns:
        (frequency, 2, model). The first is W_E's own cos direction, the second its sin direction made orthogonal to it.
    """
    rows = [fourier_basis(embed.shape[0]).components(k) for k in checked_frequencies(freqs, embed.shape[0])]
    if any(len(pair) < 2 for pair in rows):
        raise ValueError("the frequency p/2 has a cosine only: it makes a line, not a plane")
    written = fourier_basis(embed.shape[0]).vectors[torch.tensor(rows)] @ embed
    frame, upper = torch.linalg.qr(written.transpose(1, 2))
    return (frame * upper.diagonal(dim1=1, dim2=2).sign()[:, None]).transpose(1, 2)


def on_planes(embed: Embedding, planes: Tensor) -> Tensor:
    """Where the numbers lie in such planes, about their mean: (frequency, number, 2)."""
    return torch.einsum("nm,fdm->fnd", embed - embed.mean(dim=0), planes)


def head_spectra(head_values: HeadValues) -> Tensor:
    """The share of each frequency in what a head would move for each number: (head, frequency).

    *Source:* appendix C.1.2 (roles of the heads).
    """
    basis = fourier_basis(head_values.shape[1])
    components = torch.einsum("in,hnm->ihm", basis.vectors, head_values).square().sum(dim=2)
    power = basis.summed_per_frequency(components).T
    return power / power.sum(dim=1, keepdim=True)


def variance_in_sum_directions(grid: Tensor, freqs: Sequence[int]) -> float:
    """The fraction of a grid's whole variance that lies in the sum directions of `freqs`."""
    basis = fourier_basis(grid.shape[0])
    explained = fraction_of_variance_explained(grid, sum_subspace(basis, freqs))
    weights = variance(grid)
    return ((explained * weights).sum() / weights.sum()).item()


def _rows(p: int, freqs: Iterable[int]) -> Tensor:
    basis = fourier_basis(p)
    return basis.vectors[[i for k in checked_frequencies(freqs, p) for i in basis.components(k)]]


def _turns(answers: Tensor, p: int) -> Tensor:
    """answer - c mod p for every answer c: (..., answer)."""
    return (answers[..., None] - torch.arange(p)) % p


def _cosine(p: int, k: int) -> Tensor:
    """cos w_k d for every residue d."""
    return torch.cos(2 * torch.pi * (k * torch.arange(p) % p).double() / p)
