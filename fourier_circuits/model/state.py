"""The state of a model as named tensors: `HookedTransformer`'s own names and layout, without its buffers.

Every other file speaks of parameters by these names, whichever library holds them.
"""

from collections.abc import Mapping
from math import sqrt

import torch
from torch import Tensor

from fourier_circuits.model.config import ModelConfig

State = dict[str, Tensor]
"""Parameter name -> tensor, names as in `HookedTransformer.state_dict()`."""


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter, in the order in which they are initialised."""
    c = config
    shapes: dict[str, tuple[int, ...]] = {
        "embed.W_E": (c.d_vocab, c.d_model),
        "pos_embed.W_pos": (c.n_ctx, c.d_model),
    }
    for layer in range(c.n_layers):
        block = f"blocks.{layer}."
        for name in "QKV":
            shapes[f"{block}attn.W_{name}"] = (c.n_heads, c.d_model, c.d_head)
            shapes[f"{block}attn.b_{name}"] = (c.n_heads, c.d_head)
        shapes[f"{block}attn.W_O"] = (c.n_heads, c.d_head, c.d_model)
        shapes[f"{block}attn.b_O"] = (c.d_model,)
        if c.d_mlp:
            shapes[f"{block}mlp.W_in"] = (c.d_model, c.d_mlp)
            shapes[f"{block}mlp.b_in"] = (c.d_mlp,)
            shapes[f"{block}mlp.W_out"] = (c.d_mlp, c.d_model)
            shapes[f"{block}mlp.b_out"] = (c.d_model,)
    shapes["unembed.W_U"] = (c.d_model, c.d_vocab_out)
    shapes["unembed.b_U"] = (c.d_vocab_out,)
    return shapes


def config_of_shapes(state: Mapping[str, Tensor]) -> ModelConfig:
    """The sizes of a model from the shapes of its weights; p as in modular addition."""
    n_ctx, d_model = state["pos_embed.W_pos"].shape
    d_vocab, d_vocab_out = len(state["embed.W_E"]), state["unembed.W_U"].shape[1]
    n_heads, _, d_head = state["blocks.0.attn.W_Q"].shape
    blocks = {int(name.split(".")[1]) for name in state if name.startswith("blocks.")}
    return ModelConfig(
        p=max(min(d_vocab - 1, d_vocab_out), 3),
        d_model=d_model,
        n_heads=n_heads,
        d_head=d_head,
        d_mlp=state["blocks.0.mlp.W_in"].shape[1] if "blocks.0.mlp.W_in" in state else 0,
        n_layers=max(blocks) + 1,
        n_ctx=n_ctx,
        d_vocab=d_vocab,
        d_vocab_out=d_vocab_out,
    )


def short_name(parameter: str) -> str:
    """`blocks.0.mlp.W_in` -> `W_in`."""
    return parameter.rsplit(".", 1)[-1]


def is_trained(parameter: str, config: ModelConfig) -> bool:
    """Weights are trained, MLP biases if the config says so, all other biases never."""
    name = short_name(parameter)
    return name.startswith("W_") or (config.mlp_biases and name in ("b_in", "b_out"))


def initial_state(config: ModelConfig, seed: int) -> State:
    """Fresh weights: Gaussians of standard deviation 1/sqrt(d_model), W_U 1/sqrt(d_vocab_out), zero biases.

    Drawn in float32 from a generator of its own, so that a seed means the same weights everywhere.

    *Source:* reference code of the paper. *Differs:* the paper's training code sets no torch seed.
    """
    generator = torch.Generator().manual_seed(seed)
    state: State = {}
    for name, shape in parameter_shapes(config).items():
        if short_name(name).startswith("b_"):
            state[name] = torch.zeros(shape)
        else:
            width = config.d_vocab_out if name == "unembed.W_U" else config.d_model
            state[name] = torch.randn(shape, generator=generator) / sqrt(width)
    return state
