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
    two different frequencies belong to none.
    """
    squares = transform(grid, basis).square_()
    rows = basis.summed_per_frequency(squares.flatten(1)).view(len(basis.frequencies), *squares.shape[1:])
    blocks = torch.stack([rows[k - 1, basis.components(k)].sum(0) for k in basis.frequencies])
    linear_a = rows[:, 0]
    linear_b = basis.summed_per_frequency(squares[0])
    return blocks + linear_a + linear_b


def variance(grid: Grid) -> Tensor:
    """Sum of squares about the mean over (a, b), for each trailing index."""
    return (grid - grid.mean(dim=(0, 1))).square_().sum(dim=(0, 1))
