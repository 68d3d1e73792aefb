"""What is asked of a model object, whichever library made it: `LensModel`.

A `HookedTransformer` (TransformerLens 3), the bridge that takes its place in TransformerLens 4, and any module on
`HookedRootModule` with the usual hook names all have it. Nothing here asks for a class or a version.
"""

import copy
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from fourier_circuits.model.state import State
from fourier_circuits.task import GridTask, ModularAddition


class LensModel(Protocol):
    """Blocks, hooks and caching, with TransformerLens's names; weights as `state_of` looks them up."""

    blocks: Any
    run_with_hooks: Any
    """The output with functions run at hook points: `run_with_hooks(tokens, fwd_hooks=[(name, function), ...])`."""
    run_with_cache: Any
    """The output, and the activations at named hook points: `run_with_cache(tokens, names_filter=[...])`."""


_ATTENTION = (*tuple(f"{kind}_{head}" for head in "QKV" for kind in "Wb"), "W_O", "b_O")
_MLP = ("W_in", "b_in", "W_out", "b_out")


class Sizes(NamedTuple):
    """How many layers, tokens, logits and positions a model has."""

    n_layers: int
    d_vocab: int
    d_vocab_out: int
    n_ctx: int


def sizes_of(model: LensModel) -> Sizes:
    """From the shapes of its weights; the context length of a model without W_pos from its `cfg`.

    Raises:
        ValueError: a model without `blocks`, W_E or W_U.
    """
    positions = _found(model, "pos_embed.W_pos")
    n_ctx = model.cfg.n_ctx if positions is None else len(positions)  # pyright: ignore[reportAttributeAccessIssue]
    return Sizes(len(model.blocks), len(_weight(model, "embed.W_E")), _weight(model, "unembed.W_U").shape[1], n_ctx)


def state_of(model: LensModel) -> State:
    """The weights by `HookedTransformer`'s names, as they are, gradients detached; absent biases are left out.

    Raises:
        ValueError: a weight that is missing.
    """
    state = {"embed.W_E": _weight(model, "embed.W_E")}
    if (positions := _found(model, "pos_embed.W_pos")) is not None:
        state["pos_embed.W_pos"] = positions
    for layer, block in enumerate(model.blocks):
        parts = [f"attn.{name}" for name in _ATTENTION]
        if hasattr(block, "mlp"):
            parts += [f"mlp.{name}" for name in _MLP]
        for part in parts:
            name = f"blocks.{layer}.{part}"
            if part.split(".")[1].startswith("W_"):
                state[name] = _weight(model, name)
            elif (bias := _found(model, name)) is not None:
                state[name] = bias
    state["unembed.W_U"] = _weight(model, "unembed.W_U")
    if (bias := _found(model, "unembed.b_U")) is not None:
        state["unembed.b_U"] = bias
    return {name: tensor.detach() for name, tensor in state.items()}


def _weight(model: LensModel, name: str) -> Tensor:
    found = _found(model, name)
    if found is None:
        raise ValueError(
            f"this {type(model).__name__} has no {name}: a model needs TransformerLens's weight names (W_E, W_U, and "
            "in blocks[i].attn and blocks[i].mlp W_Q, W_K, W_V, W_O, W_in, W_out)"
        )
    return found


def _found(model: LensModel, name: str) -> Tensor | None:
    """`blocks.0.attn.W_Q` as such; of the embeddings, also as an attribute of the model itself."""
    for path in (name, name.rsplit(".", 1)[-1]):
        at: Any = model
        for part in path.split("."):
            at = at[int(part)] if part.isdecimal() else getattr(at, part, None)
            if at is None:
                break
        if isinstance(at, Tensor):
            return at
    return None


def in_float64(model: Any) -> Any:
    """The model itself if its weights are float64, else a float64 copy; the model given is never changed."""
    if next(model.parameters()).dtype == torch.float64:
        return model
    precise = copy.deepcopy(model).double()
    if hasattr(getattr(precise, "cfg", None), "dtype"):
        precise.cfg.dtype = torch.float64  # TransformerLens's LayerNorm casts to it
    return precise


def task_of(model: LensModel, task: GridTask | None = None) -> GridTask:
    """The task given, checked against the model; or modular addition, with p read off the vocabulary.

    Raises:
        ValueError: the model's sizes do not fit the task, or no task is given and they are not those of addition.
    """
    _, d_vocab, d_vocab_out, n_ctx = sizes_of(model)
    if task is None:
        if n_ctx != 3 or d_vocab_out not in (d_vocab - 1, d_vocab):
            raise ValueError(
                f"cannot tell the task of a model with d_vocab={d_vocab}, d_vocab_out={d_vocab_out}, "
                f"n_ctx={n_ctx}: modular addition has three positions (a, b, =) and p+1 tokens; pass task=..."
            )
        return ModularAddition(d_vocab - 1)
    highest_token, highest_output = int(task.tokens.max()), int(task.outputs.max())
    shared = isinstance(task, ModularAddition) and d_vocab != highest_token + 1
    if highest_token >= d_vocab or highest_output >= d_vocab_out or task.context > n_ctx or shared:
        raise ValueError(
            f"the task (p={task.p}: tokens up to {highest_token}, answers up to {highest_output}, "
            f"{task.context} positions) does not fit the model, which has {d_vocab} tokens, "
            f"{d_vocab_out} logits and {n_ctx} positions"
        )
    return task
