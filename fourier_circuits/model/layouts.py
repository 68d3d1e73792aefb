"""Named tensors in any known layout -> ours: TransformerLens 3's, TransformerLens 4's, the authors' own."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from fourier_circuits.model.config import ModelConfig
from fourier_circuits.model.state import State, config_of_shapes, parameter_shapes, short_name

_BUFFERS = (".mask", ".IGNORE", ".causal_mask")
_AXES = {"W_E": 2, "W_pos": 2, "W_Q": 3, "W_K": 3, "W_V": 3, "W_in": 2, "W_out": 2, "W_U": 2}
_NEEDED = ("embed.W_E", "pos_embed.W_pos", *(f"blocks.0.attn.W_{kind}" for kind in "QKVO"), "unembed.W_U")


def to_state(
    raw: Mapping[str, Tensor], config: ModelConfig | None = None, n_heads: int | None = None
) -> tuple[State, ModelConfig]:
    """Named tensors in any known layout -> ours, checked: every parameter there, of its shape, finite.

    The authors' layout has its matrices the other way round and the heads of W_O side by side. Their attention-only
    model (`attn_blocks.i`) adds every block's input twice: x becomes 2x + attn(x). The same function without that:
    W_Q, W_K, W_V of block i times 2^i, its W_O divided by 2^(i+1), W_U times 2^(blocks).

    Raises:
        ValueError: an unknown layout; a missing, extra or misshapen tensor; NaN or infinity.
    """
    if "embed.weight" in raw:
        raw = _from_native(raw, n_heads)
    doubled = sum(name.startswith("attn_blocks.") and name.endswith("W_Q") for name in raw)
    tensors = {
        re.sub("^attn_blocks", "blocks", name): tensor for name, tensor in raw.items() if not name.endswith(_BUFFERS)
    }
    if missing := [name for name in _NEEDED if name not in tensors]:
        raise ValueError(f"missing tensors {missing}; found {sorted(tensors)[:6]}")
    for name, tensor in tensors.items():
        axes = _AXES.get(short_name(name), tensor.ndim)
        if tensor.ndim != axes:
            raise ValueError(f"{name} must have {axes} axes, got shape {tuple(tensor.shape)}")
    theirs = tensors["blocks.0.attn.W_O"].ndim == 2
    if config is None:
        config = _config_from_shapes(tensors, theirs)
    shapes = parameter_shapes(config)
    if missing := [name for name in shapes if name not in tensors and ".b_" not in name]:
        raise ValueError(f"missing tensors {missing}")
    if extra := sorted(set(tensors) - set(shapes)):
        raise ValueError(f"unexpected tensors {extra}")
    state: State = {}
    for name, shape in shapes.items():
        tensor = tensors.get(name, torch.zeros(shape))
        expected = _their_shape(name, shape) if theirs else shape
        if tuple(tensor.shape) != expected:
            raise ValueError(f"{name} must have shape {expected}, got {tuple(tensor.shape)}")
        ours = _from_theirs(name, tensor, shape) if theirs else tensor
        state[name] = (ours.float() * _undoubled(name, doubled)).contiguous()
        if not state[name].isfinite().all():
            raise ValueError(f"{name} holds NaN or infinite weights, or some too large for float32")
    return state, config


def _config_from_shapes(tensors: Mapping[str, Tensor], theirs: bool) -> ModelConfig:
    if any(".mlp." in name for name in tensors) and "blocks.0.mlp.W_in" not in tensors:
        raise ValueError("missing tensors ['blocks.0.mlp.W_in']")
    turned = ("W_E", "W_Q", "W_in") if theirs else ()
    return config_of_shapes({n: t.transpose(-1, -2) if short_name(n) in turned else t for n, t in tensors.items()})


def _from_native(raw: Mapping[str, Tensor], n_heads: int | None) -> dict[str, Tensor]:
    """A state dict of TransformerLens 4 by `HookedTransformer`'s names; it is laid out as PyTorch's linear layers are.

    Raises:
        ValueError: the number of heads, which such a state does not say, is missing or does not divide.
    """
    if n_heads is None:
        raise ValueError(
            "a state dict of TransformerLens 4 does not say how many heads it has: pass n_heads (--n-heads)"
        )
    state: dict[str, Tensor] = {}
    for name, tensor in raw.items():
        place, _, kind = name.rpartition(".")
        part = place.rsplit(".", 1)[-1]
        letter, prefix = ("W" if kind == "weight" else "b"), place[: -len(part)]
        if part in ("embed", "pos_embed"):
            state[f"{place}.{ {'embed': 'W_E', 'pos_embed': 'W_pos'}[part] }"] = tensor
        elif part == "unembed":
            state[f"unembed.{letter}_U"] = tensor.T if letter == "W" else tensor
        elif part in ("in", "out"):
            state[f"{prefix}{letter}_{part}"] = tensor.T if letter == "W" else tensor
        elif part in ("q", "k", "v", "o"):
            width = tensor.shape[1 if part == "o" and letter == "W" else 0]
            if width % n_heads:
                raise ValueError(f"{name} is {width} wide, which {n_heads} heads do not divide")
            ours = f"{prefix}{letter}_{part.upper()}"
            if part == "o":
                state[ours] = tensor.T.reshape(n_heads, width // n_heads, -1) if letter == "W" else tensor
            else:
                split = tensor.reshape(n_heads, width // n_heads, *tensor.shape[1:])
                state[ours] = split.transpose(1, 2) if letter == "W" else split
        else:
            state[name] = tensor
    return state


def _their_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    kind = short_name(name)
    if kind in ("W_Q", "W_K", "W_V"):
        return (shape[0], shape[2], shape[1])
    if kind == "W_O":
        return (shape[2], shape[0] * shape[1])
    return shape[::-1] if kind in ("W_E", "W_in", "W_out") else shape


def _from_theirs(name: str, tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    kind = short_name(name)
    if kind in ("W_Q", "W_K", "W_V", "W_E", "W_in", "W_out"):
        return tensor.transpose(-1, -2)
    return tensor.T.reshape(shape) if kind == "W_O" else tensor


def _undoubled(name: str, blocks: int) -> float:
    """The factor that stands for adding every block's input twice, in a model of so many such blocks."""
    kind = short_name(name)
    match = re.match(r"blocks\.(\d+)\.", name)
    if not blocks or kind == "W_E":
        return 1.0
    if kind == "W_U":
        return 2.0**blocks
    if match and kind in ("W_Q", "W_K", "W_V"):
        return 2.0 ** int(match[1])
    return 0.5 ** (int(match[1]) + 1) if match and kind == "W_O" else 1.0
