"""Inputs in which it is known what there is to find: grids with planted frequencies, and a model built by hand."""

from collections.abc import Iterable, Mapping
from math import pi, sqrt
from typing import Any

import torch
from torch import Tensor

from fourier_circuits.model.config import ModelConfig
from fourier_circuits.model.lens import sizes_of, state_of
from fourier_circuits.model.state import State, parameter_shapes
from fourier_circuits.model.transformer import build_transformer


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_grid(p: int, *trailing: int, seed: int = 0) -> Tensor:
    """Gaussian noise about a mean of 0.5."""
    return torch.randn(p, p, *trailing, generator=generator(seed), dtype=torch.float64) + 0.5


def random_mask(p: int, seed: int = 0) -> Tensor:
    """A third of the pairs, at least one on either side."""
    mask = torch.rand(p, p, generator=generator(seed)) < 1 / 3
    mask[0, 0], mask[1, 1] = True, False
    return mask


def random_state(config: ModelConfig, seed: int = 0, scale: float = 1.0) -> State:
    """Float64 weights of the size that fresh ones have, and biases of half that size: none of them zero."""
    draw = generator(seed)
    state = {}
    for name, shape in parameter_shapes(config).items():
        width = 0.5 if ".b_" in name else 1.0
        values = torch.randn(shape, generator=draw, dtype=torch.float64)
        state[name] = scale * width * values / sqrt(config.d_model)
    return state


def numpy_state(state: Mapping[str, Tensor]) -> dict:
    return {name: tensor.detach().double().numpy() for name, tensor in state.items()}


def hooked_state_dict(model: Any) -> State:
    """What `HookedTransformer.state_dict()` gives, buffers included, whichever TransformerLens is installed."""
    state, n = state_of(model), sizes_of(model).n_ctx
    for layer in range(len(model.blocks)):
        state[f"blocks.{layer}.attn.mask"] = torch.ones(n, n, dtype=torch.bool).tril()
        state[f"blocks.{layer}.attn.IGNORE"] = torch.tensor(-torch.inf)
    return {name: tensor.contiguous() for name, tensor in state.items()}


# ------------------------------------------------------------------------------------------------------------ grids


def angles(p: int, k: int, sign: int = 1) -> Tensor:
    """w_k (a + sign b)."""
    a = torch.arange(p)
    return 2 * pi * (k * (a[:, None] + sign * a) % p).double() / p


def planted_logits(
    p: int, amplitudes: Mapping[int, float], noise: float = 0.0, seed: int = 0, operation: str = "add"
) -> Tensor:
    """logits[a, b, c] = 3 + c / 10 + sum over k of A_k cos w_k(a + b - c), plus noise."""
    c = torch.arange(p).double()
    logits = (3 + c / 10).expand(p, p, p).clone()
    for k, amplitude in amplitudes.items():
        turned = angles(p, k, 1 if operation == "add" else -1)
        logits += amplitude * torch.cos(turned[..., None] - 2 * pi * k * c / p)
    return logits + noise * torch.randn(p, p, p, generator=generator(seed), dtype=torch.float64)


def polynomial_neuron(p: int, k: int, seed: int = 0) -> Tensor:
    """A constant plus a random mixture of the whole block of k: (p, p)."""
    x = torch.arange(p).double()
    own = torch.stack(
        [torch.ones(p, dtype=torch.float64), torch.cos(2 * pi * k * x / p), torch.sin(2 * pi * k * x / p)]
    )
    if 2 * k == p:
        own = own[:2]
    mix = torch.randn(len(own), len(own), generator=generator(seed), dtype=torch.float64)
    return torch.einsum("ij,ia,jb->ab", mix, own, own)


def relu_neuron(p: int, k: int, phase: float) -> Tensor:
    """ReLU(cos(w_k a + phase) + cos(w_k b + phase)): (p, p)."""
    wave = torch.cos(2 * pi * k * torch.arange(p).double() / p + phase)
    return torch.relu(wave[:, None] + wave)


def planted_neurons(p: int, counts: Mapping[int, int], kind: str = "polynomial", silent: int = 0) -> Tensor:
    """So many neurons of each frequency, in the order given, then constant ones: (p, p, neuron)."""
    neurons = []
    for k, count in counts.items():
        for i in range(count):
            phase = 2 * pi * (i + 0.3) / count
            neurons.append(
                polynomial_neuron(p, k, seed=100 * k + i) if kind == "polynomial" else relu_neuron(p, k, phase)
            )
    neurons += [torch.full((p, p), 2.0, dtype=torch.float64)] * silent
    return torch.stack(neurons, dim=-1)


def mixed_neuron(p: int, k: int, other: int) -> Tensor:
    """cos w_k a cos w_other b, which lies in the block of no frequency."""
    x = torch.arange(p).double()
    return torch.outer(torch.cos(2 * pi * k * x / p), torch.cos(2 * pi * other * x / p))


# ------------------------------------------------------------------------------------------- a model built by hand


def circuit_config(
    p: int = 13, freqs: Iterable[int] = (2, 5, 6), phases: int = 15, answers_only: bool = False
) -> ModelConfig:
    """The sizes of `circuit_state`: four stream coordinates, one head and `phases` neurons for each frequency."""
    n = len(tuple(freqs))
    return ModelConfig(
        p=p, d_model=4 * n, n_heads=n, d_head=2, d_mlp=phases * n, d_vocab_out=p if answers_only else p + 1
    )


def circuit_state(
    p: int = 13, freqs: Iterable[int] = (2, 5, 6), phases: int = 15, gain: float = 30.0, answers_only: bool = False
) -> State:
    """Weights that add by rotation, with no training.

    1. The embedding of number x holds cos w_k x and sin w_k x; that of `=` is zero.
    2. W_Q = 0, so every head attends to a, b and `=` alike; head i copies the two coordinates of frequency i:
       the stream at `=` holds (cos w_k a + cos w_k b) / 3 = (2/3) cos(w_k(a-b)/2) cos(w_k(a+b)/2), and the sines.
    3. Neuron n of a frequency has phase f = 2 pi n / phases: ReLU((2/3) cos(w_k(a-b)/2) cos(w_k(a+b)/2 - f)).
    4. It writes cos 2f and sin 2f to two further coordinates, which W_U turns into cos(w_k c - 2f). Over a full turn
       of phases, the mean of ReLU(cos(t - f)) cos(2f - u) is cos(2t - u) / (3 pi), so

       logits[a, b, c] = gain * sum over k of |cos(w_k(a-b)/2)| cos w_k(a+b-c)    (nearly: see `circuit_logits`).
    """
    ks = tuple(freqs)
    config = circuit_config(p, ks, phases, answers_only)
    state = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in parameter_shapes(config).items()}
    x = torch.arange(p).double()
    f = 2 * pi * torch.arange(phases).double() / phases
    scale = gain * (3 / 2) * 3 * pi / phases
    for i, k in enumerate(ks):
        read, write, neurons = (
            slice(2 * i, 2 * i + 2),
            slice(2 * (len(ks) + i), 2 * (len(ks) + i) + 2),
            slice(phases * i, phases * (i + 1)),
        )
        wave = torch.stack([torch.cos(2 * pi * k * x / p), torch.sin(2 * pi * k * x / p)], dim=1)
        state["embed.W_E"][:p, read] = wave
        state["blocks.0.attn.W_V"][i, read] = torch.eye(2, dtype=torch.float64)
        state["blocks.0.attn.W_O"][i, :, read] = torch.eye(2, dtype=torch.float64)
        state["blocks.0.mlp.W_in"][read, neurons] = torch.stack([torch.cos(f), torch.sin(f)])
        state["blocks.0.mlp.W_out"][neurons, write] = scale * torch.stack([torch.cos(2 * f), torch.sin(2 * f)], dim=1)
        state["unembed.W_U"][write, :p] = wave.T
    return state


def circuit_model(
    p: int = 13,
    freqs: Iterable[int] = (2, 5, 6),
    phases: int = 15,
    answers_only: bool = False,
    dtype: torch.dtype = torch.float64,
):
    """`circuit_state` as a `HookedTransformer`."""
    ks = tuple(freqs)
    config = circuit_config(p, ks, phases, answers_only)
    state = {name: tensor.to(dtype) for name, tensor in circuit_state(p, ks, phases, answers_only=answers_only).items()}
    return build_transformer(config, state=state, dtype=dtype)


def circuit_logits(p: int = 13, freqs: Iterable[int] = (2, 5, 6), gain: float = 30.0) -> Tensor:
    """What infinitely many phases would give: gain * sum over k of |cos(w_k(a-b)/2)| cos w_k(a+b-c)."""
    x = torch.arange(p).double()
    logits = torch.zeros(p, p, p, dtype=torch.float64)
    for k in freqs:
        strength = torch.cos(pi * k * (x[:, None] - x) / p).abs()
        logits += gain * strength[..., None] * torch.cos(angles(p, k)[..., None] - 2 * pi * k * x / p)
    return logits
