"""Fourier circuits: does this network compute with rotations, and can you prove it by taking them away?

The public names are resolved on first use, so that importing the package loads neither torch nor transformer_lens
nor plotly.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fourier_circuits.ablation import Ablation as Ablation
    from fourier_circuits.ablation import ablate as ablate
    from fourier_circuits.analysis.progress import phases as phases
    from fourier_circuits.dynamics import progress_measures as progress_measures
    from fourier_circuits.fourier.basis import fourier_basis as fourier_basis
    from fourier_circuits.identification import key_frequencies as key_frequencies
    from fourier_circuits.model.config import ModelConfig as ModelConfig
    from fourier_circuits.model.formats import load_model as load_model
    from fourier_circuits.model.read import read_activations as read_activations
    from fourier_circuits.model.read import read_weights as read_weights
    from fourier_circuits.model.transformer import build_transformer as build_transformer
    from fourier_circuits.reproduction import reproduce as reproduce
    from fourier_circuits.task import ModularAddition as ModularAddition
    from fourier_circuits.training.config import RunConfig as RunConfig
    from fourier_circuits.training.run import Run as Run
    from fourier_circuits.training.train import train as train

__version__ = "0.1.0"

_HOME = {
    "Ablation": "ablation",
    "ModelConfig": "model.config",
    "ModularAddition": "task",
    "Run": "training.run",
    "RunConfig": "training.config",
    "ablate": "ablation",
    "build_transformer": "model.transformer",
    "fourier_basis": "fourier.basis",
    "key_frequencies": "identification",
    "load_model": "model.formats",
    "phases": "analysis.progress",
    "progress_measures": "dynamics",
    "read_activations": "model.read",
    "read_weights": "model.read",
    "reproduce": "reproduction",
    "train": "training.train",
}

__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fourier_circuits' has no attribute {name!r}; it has {', '.join(_HOME)}")
    return getattr(import_module(f"fourier_circuits.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
