"""The task: which tokens stand for a pair of summands, where the answer is read, and which pairs are trained on."""

import random
from dataclasses import dataclass, field

import torch

from fourier_circuits.arrays import AnswerGrid, Indices, PairMask, TokenGrid


@dataclass(frozen=True, eq=False)
class GridTask:
    """Any task whose inputs are indexed by two residues (a, b) mod p.

    Raises:
        ValueError: p below 3, or arrays that do not fit each other.
    """

    p: int
    """The modulus."""
    tokens: TokenGrid
    """The input of every pair."""
    answers: AnswerGrid
    """For every pair, the right one of `outputs`, as its index there."""
    outputs: Indices
    """The logits that are answers, in order; all others (such as that of `=`) are dropped."""
    read_at: int = -1
    """The position whose logits are read."""
    operands_at: tuple[int, int] = (0, 1)
    """The positions of a and of b."""

    def __post_init__(self) -> None:
        if self.p < 3:
            raise ValueError(f"p must be at least 3 (no frequency exists below), got {self.p}")
        if tuple(self.tokens.shape[:2]) != (self.p, self.p) or tuple(self.answers.shape) != (self.p, self.p):
            raise ValueError(
                f"tokens and answers must be grids of ({self.p}, {self.p}) pairs, "
                f"got {tuple(self.tokens.shape)} and {tuple(self.answers.shape)}"
            )
        if int(self.answers.min()) < 0 or int(self.answers.max()) >= len(self.outputs):
            raise ValueError(f"answers must index the {len(self.outputs)} outputs")

    @property
    def context(self) -> int:
        """How many tokens an input has."""
        return self.tokens.shape[2]

    @property
    def equals_token(self) -> int | None:
        """The token at the position read, where it is the same for every pair."""
        read = self.tokens[:, :, self.read_at]
        return int(read[0, 0]) if bool((read == read[0, 0]).all()) else None

    def flat_tokens(self) -> torch.Tensor:
        """All pairs in lexicographic order, as a model takes them: shape (p * p, position)."""
        return self.tokens.reshape(self.p * self.p, -1)

    def split(self, fraction: float, seed: int) -> PairMask:
        """The pairs trained on: the first `int(fraction * p * p)` of all pairs, shuffled by Python's `random`.

        *Source:* the official training code (lexicographic pairs, `random.seed(seed)`, `random.shuffle`).

        >>> int(ModularAddition(113).split(0.3, seed=0).sum())
        3830
        """
        if not 0 < fraction <= 1:
            raise ValueError(f"the training fraction must lie in (0, 1], got {fraction}")
        pairs = list(range(self.p * self.p))
        random.Random(seed).shuffle(pairs)
        mask = torch.zeros(self.p * self.p, dtype=torch.bool)
        mask[pairs[: int(fraction * self.p * self.p)]] = True
        return mask.reshape(self.p, self.p)


@dataclass(frozen=True, eq=False, init=False)
class ModularAddition(GridTask):
    """a + b mod p as the paper poses it: tokens `a`, `b`, `=` (token p), read at `=`.

    `operation` is "add" or "subtract". With `separate_operands` b is token p + b and `=` is token 2p.

    >>> task = ModularAddition(5)
    >>> task.tokens[2, 4].tolist(), int(task.answers[2, 4])
    ([2, 4, 5], 1)
    """

    operation: str = field(default="add")

    def __init__(self, p: int, operation: str = "add", separate_operands: bool = False) -> None:
        if operation not in ("add", "subtract"):
            raise ValueError(f"operation must be 'add' or 'subtract', got {operation!r}")
        a = torch.arange(p)[:, None].expand(p, p)
        b = a.T
        offset = p if separate_operands else 0
        object.__setattr__(self, "operation", operation)
        super().__init__(
            p=p,
            tokens=torch.stack([a, b + offset, torch.full((p, p), p + offset)], dim=-1),
            answers=(a + b if operation == "add" else a - b) % p,
            outputs=torch.arange(p),
        )

    def __repr__(self) -> str:
        return f"ModularAddition(p={self.p}, operation={self.operation!r})"
