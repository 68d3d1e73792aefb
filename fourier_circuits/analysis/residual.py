"""What each component writes to the residual stream and to the logits, per frequency, exactly summed.

The final stream is the sum of what the embeddings, each head and the MLP write; without LayerNorm the logits are that
sum times W_U. Every write is a grid, and every grid splits into its constant, the block of each frequency, and the
products of two different frequencies ("mixed"). So the logits are a table of components by frequencies: nothing is left
over.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from fourier_circuits.arrays import Activations, AnswerGrid, LogitGrid, ResidualGrid, Weights
from fourier_circuits.fourier.basis import FourierBasis, fourier_basis
from fourier_circuits.fourier.grid import inverse, transform


@dataclass(frozen=True, eq=False)
class ResidualTable:
    """Components by frequencies. Columns: `const`, 1..p//2, `mixed`; rows: components, the last `unembed bias`."""

    right_logit: pd.DataFrame
    """What each cell adds to the right answer's logit above the mean logit, averaged over all pairs. All cells add up
    to the model's own mean of that."""
    power: pd.DataFrame
    """Sum of squares over all pairs that each component writes to the stream at each frequency (no row for b_U). Powers
    of different components do not add up, since they may cancel; those of one component over frequencies do."""
    writes: Mapping[str, ResidualGrid]
    """The grids themselves, by component."""
    unembed: Tensor
    """W_U of the answers: (model, answer)."""
    logit_bias: Tensor
    """b_U of the answers."""

    def logits(self, component: str, frequency: int | str | None = None) -> LogitGrid:
        """What one component adds to the logits, at one column of the table (all of them, if None).

        Raises:
            KeyError: no such component or column.
        """
        p = next(iter(self.writes.values())).shape[0]
        if component == "unembed bias":
            constant = self.logit_bias.expand(p, p, -1)
            return constant if frequency in (None, "const") else torch.zeros_like(constant)
        grid = self.writes[component]
        if frequency is not None:
            grid = _part(grid, frequency, fourier_basis(p))
        return grid @ self.unembed


def residual_table(
    activations: Activations, weights: Weights, answers: AnswerGrid, clusters: Mapping[int, Tensor] | None = None
) -> ResidualTable:
    """Split the final residual stream by component and frequency.

    Args:
        activations, weights: of one model without LayerNorm.
        answers: the right answer of every pair.
        clusters: neurons by their frequency (`NeuronFrequencies.clusters`); with it the MLP's row becomes one row a
            cluster, one for the other neurons, and one for its bias.

    Raises:
        ValueError: writes that do not add up to the logits, as in a model with LayerNorm.
    """
    writes = dict(activations.writes)
    if clusters is not None:
        name = next(name for name in reversed(writes) if name.endswith("mlp"))
        writes |= _by_cluster(name, writes.pop(name), activations, weights, clusters)
    p = activations.logits.shape[0]
    total = sum(writes.values(), torch.zeros_like(next(iter(writes.values())))) @ weights.unembed + weights.logit_bias
    off = (total - activations.logits).abs().max().item()
    if off > 1e-6 * (1 + activations.logits.abs().max().item()):
        raise ValueError(
            f"the components' writes miss the logits by {off:.3g}: the table is defined for models without LayerNorm"
        )
    basis = fourier_basis(p)
    columns = ["const", *basis.frequencies, "mixed"]
    centred = weights.unembed - weights.unembed.mean(dim=1, keepdim=True)
    reading = transform(centred.T[answers], basis) / (p * p)
    right, power = {}, {}
    for name, grid in writes.items():
        coefficients = transform(grid, basis)
        right[name] = _cells((coefficients * reading).sum(dim=-1), basis)
        power[name] = _cells(coefficients.square().sum(dim=-1), basis)
    bias = (weights.logit_bias - weights.logit_bias.mean())[answers].mean().item()
    right["unembed bias"] = [bias] + [0.0] * (len(columns) - 1)
    right_logit, powers = (
        pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("component")
        for rows in (right, power)
    )
    return ResidualTable(right_logit, powers, writes, weights.unembed, weights.logit_bias)


def _by_cluster(
    name: str, mlp: Tensor, activations: Activations, weights: Weights, clusters: Mapping[int, Tensor]
) -> dict[str, Tensor]:
    neurons = activations.neurons.shape[2]
    others = torch.ones(neurons, dtype=torch.bool)
    rows: dict[str, Tensor] = {}
    for k, cluster in sorted(clusters.items()):
        others[cluster] = False
        rows[f"{name} neurons of {k}"] = activations.neurons[..., cluster] @ weights.neuron_write[cluster]
    rows[f"{name} other neurons"] = activations.neurons[..., others] @ weights.neuron_write[others]
    rows[f"{name} bias"] = mlp - sum(rows.values(), torch.zeros_like(mlp))
    return rows


def _cells(products: Tensor, basis: FourierBasis) -> list[float]:
    """A (component, component) table of coefficients added up by column: const, each block, mixed."""
    blocks = [products[_block(basis, k)].sum() for k in basis.frequencies]
    constant = products[0, 0]
    mixed = products.sum() - constant - sum(blocks)
    return [value.item() for value in (constant, *blocks, mixed)]


def _block(basis: FourierBasis, k: int) -> Tensor:
    """Mask over (component, component): the non-constant products of {const, cos k, sin k}."""
    member = torch.tensor([f in (0, k) for f in basis.frequency])
    block = member[:, None] & member
    block[0, 0] = False
    return block


def _part(grid: Tensor, column: int | str, basis: FourierBasis) -> Tensor:
    """The part of a grid that belongs to one column."""
    constant = torch.zeros(basis.p, basis.p, dtype=torch.bool)
    constant[0, 0] = True
    if column == "const":
        chosen = constant
    elif column == "mixed":
        chosen = ~constant & ~torch.stack([_block(basis, k) for k in basis.frequencies]).any(dim=0)
    elif column in basis.frequencies:
        chosen = _block(basis, int(column))
    else:
        raise KeyError(f"columns are 'const', 1..{basis.p // 2} and 'mixed', got {column!r}")
    return inverse(transform(grid, basis) * chosen[..., None], basis)
