"""The orthonormal real Fourier basis of the residues mod p, for odd and even p.

Components in order: the constant, then cos k and sin k for k = 1, 2, ..., p // 2. For even p the last frequency
p / 2 has a cosine only (its sine is zero on every residue). With w_k = 2 pi k / p:

    const(x) = 1 / sqrt(p),   cos k(x) = sqrt(2 / p) cos(w_k x),   sin k(x) = sqrt(2 / p) sin(w_k x)

and cos p/2 (x) = (-1)^x / sqrt(p).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from operator import index

import torch
from torch import Tensor

from fourier_circuits.arrays import Vectors


@dataclass(frozen=True, eq=False)
class FourierBasis:
    """The basis and what each of its components is."""

    vectors: Vectors
    """Orthonormal rows, one per component."""
    frequency: tuple[int, ...]
    """Of each component; 0 for the constant."""
    labels: tuple[str, ...]
    """`const`, `cos 1`, `sin 1`, ..."""

    @property
    def p(self) -> int:
        """The modulus."""
        return self.vectors.shape[1]

    @property
    def amplitudes(self) -> Tensor:
        """What each component multiplies its wave of height 1 by: sqrt(2/p), or 1/sqrt(p) for const and p/2."""
        halved = [1.0 if 2 * k % self.p == 0 else 2.0 for k in self.frequency]
        return (torch.tensor(halved, dtype=torch.float64) / self.p).sqrt()

    @property
    def frequencies(self) -> range:
        """All frequencies, 1 to p // 2."""
        return range(1, self.p // 2 + 1)

    def components(self, k: int) -> list[int]:
        """Which components have frequency k: two of them, or one where k = p / 2."""
        return [i for i, frequency in enumerate(self.frequency) if frequency == k]

    def summed_per_frequency(self, values: Tensor) -> Tensor:
        """Add up the first axis (component) over the components of each frequency: axis frequency, from k = 1."""
        total = torch.zeros(len(self.frequencies) + 1, *values.shape[1:], dtype=values.dtype)
        total.index_add_(0, torch.tensor(self.frequency), values)
        return total[1:]


@cache
def fourier_basis(p: int) -> FourierBasis:
    """The basis for modulus p, in float64.

    >>> basis = fourier_basis(5)
    >>> basis.labels
    ('const', 'cos 1', 'sin 1', 'cos 2', 'sin 2')
    >>> bool(torch.allclose(basis.vectors @ basis.vectors.T, torch.eye(5, dtype=torch.float64)))
    True

    Raises:
        ValueError: p is not an integer of at least 3.

    *Source:* section 4.1 of the paper (0-based there; the official code stops before the last frequency).
    """
    if type(p) is not int or p < 3:
        raise ValueError(f"p must be an integer of at least 3, got {p!r}")
    x = torch.arange(p)
    rows, frequency, labels = [torch.ones(p, dtype=torch.float64)], [0], ["const"]
    for k in range(1, p // 2 + 1):
        angle = 2 * torch.pi * (k * x % p).double() / p
        rows.append(torch.cos(angle))
        frequency.append(k)
        labels.append(f"cos {k}")
        if 2 * k != p:
            rows.append(torch.sin(angle))
            frequency.append(k)
            labels.append(f"sin {k}")
    vectors = torch.stack(rows)
    return FourierBasis(vectors / vectors.norm(dim=1, keepdim=True), tuple(frequency), tuple(labels))


def checked_frequencies(freqs: int | Iterable[int], p: int) -> tuple[int, ...]:
    """The frequencies as a tuple of ints, in the order given.

    Raises:
        ValueError: none at all, one twice, or one outside 1..p//2.
        TypeError: something that is not an integer.

    >>> checked_frequencies([14, 35], p=113)
    (14, 35)
    """
    given = [freqs] if isinstance(freqs, int) else list(freqs)
    try:
        ks = tuple(_integer(k) for k in given)
    except TypeError:
        raise TypeError(f"frequencies must be integers in 1..{p // 2} for p={p}, got {given!r}") from None
    if not ks:
        raise ValueError(f"expected at least one frequency in 1..{p // 2} for p={p}, got none")
    for k in ks:
        if not 1 <= k <= p // 2:
            raise ValueError(f"frequencies must lie in 1..{p // 2} for p={p}, got {k}")
    if len(set(ks)) < len(ks):
        raise ValueError(f"each frequency may be given once, got {list(ks)}")
    return ks


def _integer(value: object) -> int:
    if isinstance(value, bool):
        raise TypeError
    return index(value)  # pyright: ignore[reportArgumentType]
