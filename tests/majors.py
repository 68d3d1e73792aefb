"""The numbers that both majors of TransformerLens must agree on, as JSON: `python -m tests.majors CHECKPOINT_OUT`.

Every site, removed and kept, sum and block, of a model with random weights and no zero bias, in float64; the
reproduction table of the bundled run; and a checkpoint written by this major's own `state_dict`.
"""

import json
import sys
from importlib.metadata import version
from typing import Any

import torch

from fourier_circuits.ablation import ablate
from fourier_circuits.model.config import ModelConfig
from fourier_circuits.model.sites import SITES
from fourier_circuits.model.transformer import build_transformer
from fourier_circuits.reproduction import reproduce
from fourier_circuits.training.run import Run, bundled_run
from tests.planted import random_state

CONFIG = ModelConfig(p=7, d_model=10, n_heads=2, d_head=3, d_mlp=9)


def model() -> Any:
    return build_transformer(CONFIG, state=random_state(CONFIG, seed=1, scale=2.0), dtype=torch.float64)


def ablations() -> dict[str, list[float]]:
    found = {}
    for at in SITES:
        for directions in ("sum", "block"):
            if (at, directions) != ("embed", "sum"):
                for keep in (False, True):
                    result = ablate(model(), (3, 1), at=at, keep=keep, directions=directions)
                    found[f"{at} {directions} {'keep' if keep else 'remove'}"] = result.logits.flatten().tolist()
    return found


def reproduction() -> dict[str, Any]:
    return {claim.id: claim.ours.value for claim in reproduce(Run.open(bundled_run())).claims}


def flat(value: Any, name: str = "") -> dict[str, float]:
    """Nested numbers by their path."""
    if isinstance(value, dict):
        return {k: v for key, part in value.items() for k, v in flat(part, f"{name}/{key}").items()}
    if isinstance(value, list | tuple):
        return {k: v for i, part in enumerate(value) for k, v in flat(part, f"{name}/{i}").items()}
    return {name: float(value)} if isinstance(value, int | float) else {}


if __name__ == "__main__":
    torch.save({name: tensor.float() for name, tensor in model().state_dict().items()}, sys.argv[1])
    numbers = {"version": version("transformer-lens"), "ablations": ablations(), "reproduction": flat(reproduction())}
    print(json.dumps(numbers))
