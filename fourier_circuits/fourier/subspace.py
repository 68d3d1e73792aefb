"""Subspaces of the functions on the grid: keep one (`project`), take it away (`remove`), or measure it.

Three families, for a set of frequencies:

- the constant: what does not depend on (a, b);
- the *sum directions* of k: cos w_k(a+b) and sin w_k(a+b), the functions of a + b that turn with frequency k;
- the *block* of k: all non-constant products of {1, cos w_k a, sin w_k a} with {1, cos w_k b, sin w_k b}.

The sum directions of k lie in the block of k. Different frequencies, and the constant, are orthogonal.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from fourier_circuits.arrays import AnswerGrid, Directions, Grid, PairMask
from fourier_circuits.fourier.basis import FourierBasis, checked_frequencies
from fourier_circuits.fourier.grid import variance

DirectionsName = str
""""sum" or "block"; checked where it is used."""


@dataclass(frozen=True, eq=False)
class Subspace:
    """A span of orthonormal directions on the grid.

    Raises:
        ValueError: directions that are not orthonormal.
    """

    directions: Directions

    def __post_init__(self) -> None:
        flat = self.directions.flatten(1)
        gram = flat @ flat.T
        if not torch.allclose(gram, torch.eye(len(flat), dtype=gram.dtype), atol=1e-9):
            raise ValueError("the directions of a subspace must be orthonormal; do two subspaces overlap?")

    def coefficients(self, grid: Grid) -> Tensor:
        """Inner products with the directions: (direction, ...)."""
        return torch.einsum("dab,ab...->d...", self.directions, grid)

    def project(self, grid: Grid) -> Grid:
        """The part of a grid that lies in the subspace."""
        return torch.einsum("dab,d...->ab...", self.directions, self.coefficients(grid))

    def remove(self, grid: Grid) -> Grid:
        """The rest: `grid - project(grid)`."""
        return grid - self.project(grid)

    def removed_at(self, grid: Grid, where: PairMask) -> Tensor:
        """`remove(grid)[where]`, computed at those pairs alone: (pair, ...)."""
        return grid[where] - torch.einsum("dn,d...->n...", self.directions[:, where], self.coefficients(grid))

    def __add__(self, other: "Subspace") -> "Subspace":
        """The span of both; they must be orthogonal."""
        return Subspace(torch.cat([self.directions, other.directions]))

    def __len__(self) -> int:
        return len(self.directions)


def constant_subspace(basis: FourierBasis) -> Subspace:
    """The functions that do not depend on (a, b)."""
    return Subspace(_outer(basis, [0], [0]))


def sum_subspace(basis: FourierBasis, freqs: Iterable[int], answers: AnswerGrid | None = None) -> Subspace:
    """cos w_k(a+b) and sin w_k(a+b) for each k, unit norm on the grid.

    With `answers`, the task's right answers, they are cos and sin of w_k answer(a, b): the same for addition, and what
    takes its place for subtraction and its like (every answer equally often).

    >>> from fourier_circuits.fourier.basis import fourier_basis
    >>> len(sum_subspace(fourier_basis(5), [1, 2])), len(sum_subspace(fourier_basis(4), [2]))
    (4, 1)
    """
    ks = checked_frequencies(freqs, basis.p)
    a = torch.arange(basis.p)
    turned = (a[:, None] + a) % basis.p if answers is None else answers
    if int(turned.max()) >= basis.p:
        raise ValueError(f"the sum directions need answers below p={basis.p}, got {int(turned.max())}")
    counts = torch.bincount(turned.flatten(), minlength=basis.p)
    if counts.min() != counts.max():
        raise ValueError(
            "the sum directions are defined for tasks in which every answer is right equally often, as in addition; "
            "take directions='block'"
        )
    components = [i for k in ks for i in basis.components(k)]
    return Subspace(basis.vectors[components][:, turned] / basis.p**0.5)


def block_subspace(basis: FourierBasis, freqs: Iterable[int]) -> Subspace:
    """The blocks of the given frequencies: 8 directions each, 3 where k = p / 2.

    >>> from fourier_circuits.fourier.basis import fourier_basis
    >>> len(block_subspace(fourier_basis(5), [1])), len(block_subspace(fourier_basis(4), [2]))
    (8, 3)
    """
    blocks = []
    for k in checked_frequencies(freqs, basis.p):
        these = [0, *basis.components(k)]
        blocks.append(_outer(basis, these, these)[1:])
    return Subspace(torch.cat(blocks))


def frequency_subspace(
    basis: FourierBasis, freqs: Iterable[int], directions: DirectionsName, answers: AnswerGrid | None = None
) -> Subspace:
    """`sum_subspace` or `block_subspace`, by name.

    Raises:
        ValueError: another name.
    """
    if directions not in ("sum", "block"):
        raise ValueError(f"directions must be 'sum' or 'block', got {directions!r}")
    return block_subspace(basis, freqs) if directions == "block" else sum_subspace(basis, freqs, answers)


def fraction_of_variance_explained(grid: Grid, by: Subspace) -> Tensor:
    """The share of a grid's variance over (a, b) that lies in a subspace, for each trailing index; 0 of no variance.

    FVE = ||P(g - mean)||^2 / ||g - mean||^2.

    >>> from fourier_circuits.fourier.basis import fourier_basis
    >>> grid = sum_subspace(fourier_basis(5), [2]).directions[0]
    >>> fraction_of_variance_explained(grid[..., None], sum_subspace(fourier_basis(5), [2])).round(decimals=9).tolist()
    [1.0]
    """
    total = variance(grid)
    explained = by.coefficients(grid - grid.mean(dim=(0, 1))).square_().sum(dim=0)
    return torch.where(total > 0, explained / total, torch.zeros_like(total))


def _outer(basis: FourierBasis, over_a: list[int], over_b: list[int]) -> Tensor:
    """All products of components, as directions, the pairs of indices in lexicographic order."""
    products = basis.vectors[over_a][:, None, :, None] * basis.vectors[over_b][None, :, None, :]
    return products.flatten(0, 1)
