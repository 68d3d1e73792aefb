"""Everything that decides a training run, and what it runs on, in frozen records that travel as JSON."""

from dataclasses import asdict, dataclass, field, fields
from math import isfinite
from typing import Any, Self

import torch

from fourier_circuits.model.config import ModelConfig
from fourier_circuits.task import ModularAddition


@dataclass(frozen=True)
class RunConfig:
    """A training run; the defaults are the paper's (full batch, so an epoch is one step).

    Raises:
        ValueError: a value outside its range.
    """

    model: ModelConfig = field(default_factory=ModelConfig.paper)
    seed: int = 0
    """Of the weights and of the train/test split."""
    operation: str = "add"
    """"add" or "subtract"."""
    train_fraction: float = 0.3
    epochs: int = 40_000
    learning_rate: float = 1e-3
    weight_decay: float = 1.0
    betas: tuple[float, float] = (0.9, 0.98)
    """Of AdamW; from the authors' code, not in the paper."""
    warmup: int = 10
    """The learning rate of update t is `min(t / warmup, 1)` of the full one; from the authors' code."""
    loss_dtype: str = "float64"
    """"float64" or "float32": the dtype of the log-softmax. In float32 small losses round to zero."""
    log_every: int = 25
    """A checkpoint is yielded, and the test pairs are evaluated, every so many epochs."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        for name in ("epochs", "log_every", "warmup"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        if type(self.seed) is not int or self.seed < 0:
            raise ValueError(f"seed must be an integer of at least 0, got {self.seed!r}")
        if not 0 < self.train_fraction <= 1:
            raise ValueError(f"train_fraction must lie in (0, 1], got {self.train_fraction!r}")
        for name in ("learning_rate", "weight_decay"):
            value = getattr(self, name)
            if not isfinite(value) or value < 0:
                raise ValueError(f"{name} must be finite and not negative, got {value!r}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be two numbers in [0, 1), got {self.betas!r}")
        if self.loss_dtype not in ("float64", "float32"):
            raise ValueError(f"loss_dtype must be 'float64' or 'float32', got {self.loss_dtype!r}")
        if int(self.train_fraction * self.model.p**2) < 1:
            raise ValueError(f"train_fraction={self.train_fraction} of {self.model.p**2} pairs leaves none to train on")
        self.task()

    def task(self) -> ModularAddition:
        """The task that the run trains on."""
        return ModularAddition(self.model.p, self.operation)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`; an unknown key is an error."""
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"unknown run options {unknown}; known are {sorted(known)}")
        return cls(**{**values, "model": ModelConfig.from_dict(values.get("model", {}))})

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Hardware:
    """What a training runs on.

    Raises:
        ValueError: a device that is not there.
    """

    device: str = "cpu"
    """"cpu" or "cuda". On a GPU the whole step is one CUDA graph; sums there have no fixed order, so that going on
    with a run gives the same curve but not the same last digits."""
    compiled: bool = False
    """Compile the small products of the factored step: 2% faster at the paper's size, 10% at p=23."""
    tf32: bool = False
    """Let a GPU round the factors of its matrix products to 10 bits. Small losses are then no longer exact."""

    def __post_init__(self) -> None:
        if self.device not in ("cpu", "cuda"):
            raise ValueError(f"device must be 'cpu' or 'cuda', got {self.device!r}")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device 'cuda' needs an NVIDIA GPU and a PyTorch built for CUDA, not found: use cpu")


CPU = Hardware()


@dataclass(frozen=True)
class Schedule:
    """When a recorded run stops, and what is kept of it; stored with it for whoever resumes.

    Raises:
        ValueError: a value outside its range.
    """

    until: str = "finished"
    """"finished" or "grokked": stop early, as `has_grokked` says."""
    checkpoint_every: int = 100
    """Keep the weights of every so many epochs, and the last."""
    measure_every: int = 250
    """Measures while training, every so many epochs; 0 takes none."""

    def __post_init__(self) -> None:
        if self.until not in ("finished", "grokked"):
            raise ValueError(f"until must be 'finished' or 'grokked', got {self.until!r}")
        for name, least in (("checkpoint_every", 1), ("measure_every", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
