"""Building the transformer: the only constructor of a TransformerLens object in the package."""

import warnings

import torch
from transformer_lens import HookedTransformer, HookedTransformerConfig

from fourier_circuits.model.config import ModelConfig
from fourier_circuits.model.state import State, initial_state, is_trained


def build_transformer(
    config: ModelConfig, *, seed: int = 0, state: State | None = None, dtype: torch.dtype = torch.float32
) -> HookedTransformer:
    """A `HookedTransformer` with the given weights, or fresh ones of that seed.

    Biases that the paper's model does not have exist (TransformerLens allocates them), are zero and frozen.

    Args:
        config: sizes.
        seed: of the fresh weights, where no state is given (`initial_state`).
        state: weights by `HookedTransformer`'s names.
        dtype: of the parameters.

    Raises:
        RuntimeError: the state lacks a parameter, has one too many, or one of another shape.
    """
    lens_config = HookedTransformerConfig(
        n_layers=config.n_layers,
        d_model=config.d_model,
        n_ctx=config.n_ctx,
        d_head=config.d_head,
        n_heads=config.n_heads,
        d_mlp=config.d_mlp or None,
        attn_only=config.d_mlp == 0,
        act_fn=config.act_fn,
        d_vocab=config.d_vocab,
        d_vocab_out=config.d_vocab_out,
        normalization_type=None,
        init_weights=False,
        device="cpu",
        dtype=dtype,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "HookedTransformer is deprecated", DeprecationWarning)
        model = HookedTransformer(lens_config)
    buffers = {name: tensor for name, tensor in model.state_dict().items() if name.endswith((".mask", ".IGNORE"))}
    model.load_state_dict({**(state or initial_state(config, seed)), **buffers}, strict=True)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_trained(name, config))
    return model
