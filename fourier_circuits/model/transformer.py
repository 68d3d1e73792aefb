"""Building the transformer: the only place that knows the two majors of TransformerLens.

TransformerLens 3 has `HookedTransformer`. TransformerLens 4 removed it; `TransformerBridge.boot_native` takes its
place: the same hook names, other parameter names and layout. Both are built here from the same `State`.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fourier_circuits.model.config import ModelConfig
from fourier_circuits.model.state import State, initial_state, is_trained, parameter_shapes

try:
    from transformer_lens import HookedTransformer, HookedTransformerConfig
except ImportError:  # TransformerLens 4
    HookedTransformer = None
    from transformer_lens.config.transformer_bridge_config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.utilities.tl_checkpoint_conversion import (  # pyright: ignore[reportMissingImports]
        convert_tl_checkpoint,
    )


def build_transformer(
    config: ModelConfig, *, seed: int = 0, state: State | None = None, dtype: torch.dtype = torch.float32
) -> Any:
    """A `HookedTransformer` (on TransformerLens 4: a native `TransformerBridge`) with the given weights, or fresh ones.

    Biases that the paper's model does not have exist (TransformerLens allocates them), are zero and frozen.

    Args:
        config: sizes.
        seed: of the fresh weights, where no state is given (`initial_state`).
        state: weights by `HookedTransformer`'s names.
        dtype: of the parameters.

    Raises:
        RuntimeError: the state lacks a parameter, has one too many, or one of another shape.
    """
    weights, shapes = state or initial_state(config, seed), parameter_shapes(config)
    wrong = sorted(set(weights) ^ set(shapes)) or [n for n in shapes if tuple(weights[n].shape) != shapes[n]]
    if wrong:
        raise RuntimeError(
            f"the state does not fit the configuration: {', '.join(wrong)} is missing, extra or misshapen"
        )
    return _bridge(config, weights, dtype) if HookedTransformer is None else _hooked(config, weights, dtype)


def native_parameters(model: Any, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by our names -> by the model's own parameter names and in its layout; differentiable.

    For `torch.func.functional_call(model, native_parameters(model, weights), tokens)`.
    """
    if HookedTransformer is not None:
        return {name: weights[name] for name, _ in model.named_parameters()}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    own = model.state_dict(keep_vars=True)
    converted = convert_tl_checkpoint(dict(weights), model.cfg)
    return {names[id(own[key])]: tensor for key, tensor in converted.items() if id(own[key]) in names}


def _options(config: ModelConfig, dtype: torch.dtype) -> dict[str, Any]:
    """What both majors call a model's sizes and ways."""
    return {
        "n_layers": config.n_layers,
        "d_model": config.d_model,
        "n_ctx": config.n_ctx,
        "d_head": config.d_head,
        "n_heads": config.n_heads,
        "d_mlp": config.d_mlp or None,
        "attn_only": config.d_mlp == 0,
        "act_fn": config.act_fn,
        "d_vocab": config.d_vocab,
        "d_vocab_out": config.d_vocab_out,
        "normalization_type": None,
        "init_weights": False,
        "device": "cpu",
        "dtype": dtype,
    }


def _hooked(config: ModelConfig, weights: State, dtype: torch.dtype) -> Any:
    lens_config = HookedTransformerConfig(**_options(config, dtype))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "HookedTransformer is deprecated", DeprecationWarning)
        model = HookedTransformer(lens_config)  # pyright: ignore[reportOptionalCall]
    buffers = {name: tensor for name, tensor in model.state_dict().items() if name.endswith((".mask", ".IGNORE"))}
    model.load_state_dict({**weights, **buffers}, strict=True)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_trained(name, config))
    return model


def _bridge(config: ModelConfig, weights: State, dtype: torch.dtype) -> Any:
    lens_config = TransformerBridgeConfig(**_options(config, dtype))
    model = TransformerBridge.boot_native(lens_config, device="cpu", dtype=dtype)
    model.load_state_dict(convert_tl_checkpoint(dict(weights), lens_config), strict=True)
    for key, parameter in model.state_dict(keep_vars=True).items():
        trained = key.endswith(".weight") or (config.mlp_biases and key.endswith(("mlp.in.bias", "mlp.out.bias")))
        parameter.requires_grad_(trained)
    return model
