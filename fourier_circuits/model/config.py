"""What a model is made of: its sizes and which parameters exist, before any library builds it."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Self


@dataclass(frozen=True)
class ModelConfig:
    """A transformer without LayerNorm on modular arithmetic; the defaults are the paper's model.

    Raises:
        ValueError: a size that is not a positive integer, an unknown activation, or too small a vocabulary.
    """

    p: int = 113
    """The modulus; tokens 0..p-1 are the numbers, token p is `=`."""
    d_model: int = 128
    n_heads: int = 4
    d_head: int = 32
    d_mlp: int = 512
    """Width of the MLP; 0 for an attention-only model."""
    n_layers: int = 1
    n_ctx: int = 3
    act_fn: str = "relu"
    d_vocab: int = 0
    """Input tokens; 0 means p + 1."""
    d_vocab_out: int = 0
    """Logits; 0 means p + 1: the paper's model has a logit for `=`, dropped in every analysis."""
    mlp_biases: bool = True
    """Train b_in and b_out (the paper does); all other biases are frozen at zero."""

    def __post_init__(self) -> None:
        for name in ("d_vocab", "d_vocab_out"):
            if getattr(self, name) == 0:
                object.__setattr__(self, name, self.p + 1)
        for f in fields(self):
            value = getattr(self, f.name)
            if f.type is int and (type(value) is not int or value < (0 if f.name == "d_mlp" else 1)):
                raise ValueError(f"{f.name} must be a positive integer, got {value!r}")
        if self.p < 3:
            raise ValueError(f"p must be at least 3 (no frequency exists below), got {self.p}")
        if self.d_vocab < self.p:
            raise ValueError(f"d_vocab must hold p={self.p} numbers, got {self.d_vocab} tokens")
        if self.d_vocab_out < self.p:
            raise ValueError(f"d_vocab_out must hold p={self.p} answers, got {self.d_vocab_out} logits")
        if self.act_fn not in ("relu", "gelu", "silu"):
            raise ValueError(f"act_fn must be 'relu', 'gelu' or 'silu', got {self.act_fn!r}")

    @classmethod
    def paper(cls, **changes: Any) -> Self:
        """The paper's model (p=113), or one that differs from it only in `changes`."""
        return cls(**changes)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`; an unknown key is an error."""
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"unknown model options {unknown}; known are {sorted(known)}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)
