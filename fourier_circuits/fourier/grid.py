"""The two-dimensional transform of a grid over (a, b), and how much of a grid belongs to each frequency."""

import torch
from torch import Tensor

from fourier_circuits.arrays import Grid
from fourier_circuits.fourier.basis import FourierBasis


def transform(grid: Grid, basis: FourierBasis) -> Tensor:
    """Coefficients of a grid on the products of two basis components: (component of a, component of b, ...).

    C[i, j] = sum over a, b of F_i(a) F_j(b) grid[a, b].

    >>> from fourier_circuits.fourier.basis import fourier_basis
    >>> ones = torch.ones(5, 5, dtype=torch.float64)
    >>> transform(ones, fourier_basis(5))[0, 0].round(decimals=12).item()
    5.0
    """
    return _along_both(basis.vectors, grid)


def inverse(coefficients: Tensor, basis: FourierBasis) -> Tensor:
    """The grid that has these coefficients; `inverse(transform(g)) == g`."""
    return _along_both(basis.vectors.T, coefficients)


def _along_both(matrix: Tensor, grid: Tensor) -> Tensor:
    first = (matrix @ grid.flatten(1)).view(grid.shape)
    return torch.einsum("jb,ab...->aj...", matrix, first)


def power_per_frequency(grid: Grid, basis: FourierBasis) -> Tensor:
    """Sum of squares in the block of each frequency: (frequency, ...), k from 1 to p // 2.

    The block of k are the (at most 8) non-constant products of {const, cos k, sin k} over a and over b. Products of
    two different frequencies belong to none, and are never computed.
    """
    over_a = (basis.vectors @ grid.flatten(1)).view(basis.p, basis.p, -1)
    constant = basis.vectors[:1]
    powers = []
    for k in basis.frequencies:
        own = basis.components(k)
        with_b = torch.cat([constant, basis.vectors[own]]) @ over_a[own]
        only_b = basis.vectors[own] @ over_a[0]
        powers.append(with_b.square().sum(dim=(0, 1)) + only_b.square().sum(dim=0))
    return torch.stack(powers).view(-1, *grid.shape[2:])


def variance(grid: Grid) -> Tensor:
    """Sum of squares about the mean over (a, b), for each trailing index."""
    return grid.var(dim=(0, 1), correction=0) * grid.shape[0] * grid.shape[1]
