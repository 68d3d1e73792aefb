"""The arrays that every other file passes around, and the two records in which a model arrives.

An alias names the axes of one kind of array; signatures use the alias, so that a type checker at run time
sees dtype and shape. The words: `p` modulus (the two summands `a`, `b` are the first two axes of a *grid*),
`answer`, `number`, `component` (of the Fourier basis), `frequency`, `neuron`, `head`, `position`, `model`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

Grid = Float64[Tensor, "p p ..."]
"""Anything real indexed by the summands (a, b)."""
LogitGrid = Float64[Tensor, "p p answer"]
NeuronGrid = Float64[Tensor, "p p neuron"]
PatternGrid = Float64[Tensor, "p p head position"]
"""Attention from the position that is read, per head, to every position."""
ResidualGrid = Float64[Tensor, "p p model"]
AnswerGrid = Int64[Tensor, "p p"]
TokenGrid = Int64[Tensor, "p p position"]
PairMask = Bool[Tensor, "p p"]
"""True for the pairs (a, b) that a measurement uses."""

Vectors = Float64[Tensor, "component number"]
Directions = Float64[Tensor, "direction p p"]
Embedding = Float64[Tensor, "number model"]
Unembedding = Float64[Tensor, "model answer"]
NeuronLogitMap = Float64[Tensor, "neuron answer"]
HeadValues = Float64[Tensor, "head number model"]
Indices = Int64[Tensor, " index"]


@dataclass(frozen=True, eq=False)
class Activations:
    """What a model computes at the position it answers from, for every pair of summands.

    Raises:
        ValueError: grids of different p, or writes of different widths.
    """

    logits: LogitGrid
    """One logit per answer; the logit of `=` is dropped."""
    neurons: NeuronGrid
    """Post-activation values of the last MLP (`mlp_post`)."""
    attention: PatternGrid
    """Attention pattern of the last block."""
    writes: Mapping[str, ResidualGrid]
    """What each component adds to the residual stream; they sum to the final stream (`resid_post`)."""

    def __post_init__(self) -> None:
        p = self.logits.shape[0]
        grids = {"logits": self.logits, "neurons": self.neurons, "attention": self.attention, **self.writes}
        for name, grid in grids.items():
            if grid.dtype != torch.float64 or tuple(grid.shape[:2]) != (p, p):
                raise ValueError(
                    f"{name} must be a float64 grid of ({p}, {p}) pairs, got {grid.dtype} of shape {tuple(grid.shape)}"
                )
        widths = {name: grid.shape[2] for name, grid in self.writes.items()}
        if len(set(widths.values())) > 1:
            raise ValueError(f"all writes go into one residual stream, got widths {widths}")


@dataclass(frozen=True, eq=False)
class Weights:
    """The weights of a model as the analyses need them: maps between numbers, neurons and answers.

    Raises:
        ValueError: maps whose shared axes differ.
    """

    embed: Embedding
    """W_E, the rows of the numbers (the first summand's, where the two have separate tokens)."""
    unembed: Unembedding
    """W_U, the columns of the answers."""
    neuron_write: Float64[Tensor, "neuron model"]
    """W_out of the last MLP: what each neuron writes to the residual stream."""
    neuron_to_logit: NeuronLogitMap
    """W_L = W_out W_U of the last MLP; no rows in an attention-only model."""
    head_values: HeadValues
    """What each head of the last block would move for each number: W_E W_V W_O."""
    logit_bias: Float64[Tensor, " answer"]
    """b_U, the answers' columns."""
    squares: Mapping[str, float]
    """Sum of squares of every parameter, by its short name (W_E, W_in, ...), summed over blocks."""

    def __post_init__(self) -> None:
        d_model, answers = self.unembed.shape
        if self.embed.shape[1] != d_model or self.neuron_to_logit.shape[1] != answers:
            raise ValueError(
                f"embed, unembed, neuron_write and neuron_to_logit must share their axes, got "
                f"{ {f.name: tuple(getattr(self, f.name).shape) for f in fields(self)[:4]} }"
            )
