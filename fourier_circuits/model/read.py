"""A model -> its activations on the grid and its weights, in float64 whatever the model's own dtype.

This is the only file that reshapes what a model gives: the position that is read, the logits of the answers (that of
`=` is dropped), a grid over (a, b).
"""

import copy
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fourier_circuits.arrays import Activations, LogitGrid, Weights
from fourier_circuits.model import factored
from fourier_circuits.model.config import ModelConfig
from fourier_circuits.model.state import State, parameter_shapes, short_name
from fourier_circuits.task import GridTask, ModularAddition


def config_of(model: Any) -> ModelConfig:
    """The sizes of a model, from its `cfg`."""
    cfg = model.cfg
    return ModelConfig(
        p=max(min(cfg.d_vocab - 1, cfg.d_vocab_out), 3),
        d_model=cfg.d_model,
        n_heads=cfg.n_heads,
        d_head=cfg.d_head,
        d_mlp=0 if cfg.attn_only else cfg.d_mlp,
        n_layers=cfg.n_layers,
        n_ctx=cfg.n_ctx,
        act_fn=cfg.act_fn,
        d_vocab=cfg.d_vocab,
        d_vocab_out=cfg.d_vocab_out,
    )


def task_of(model: Any, task: GridTask | None = None) -> GridTask:
    """The task given, checked against the model; or modular addition, with p read off the vocabulary.

    Raises:
        ValueError: the model's sizes do not fit the task, or no task is given and they are not those of addition.
    """
    cfg = model.cfg
    if task is None:
        if cfg.n_ctx != 3 or cfg.d_vocab_out not in (cfg.d_vocab - 1, cfg.d_vocab):
            raise ValueError(
                f"cannot tell the task of a model with d_vocab={cfg.d_vocab}, d_vocab_out={cfg.d_vocab_out}, "
                f"n_ctx={cfg.n_ctx}: modular addition has three positions (a, b, =) and p+1 tokens; pass task=..."
            )
        return ModularAddition(cfg.d_vocab - 1)
    highest_token, highest_output = int(task.tokens.max()), int(task.outputs.max())
    shared = isinstance(task, ModularAddition) and cfg.d_vocab != highest_token + 1
    if highest_token >= cfg.d_vocab or highest_output >= cfg.d_vocab_out or task.context > cfg.n_ctx or shared:
        raise ValueError(
            f"the task (p={task.p}: tokens up to {highest_token}, answers up to {highest_output}, "
            f"{task.context} positions) does not fit the model, which has {cfg.d_vocab} tokens, "
            f"{cfg.d_vocab_out} logits and {cfg.n_ctx} positions"
        )
    return task


def in_float64(model: Any) -> Any:
    """The model itself if its weights are float64, else a float64 copy; the model given is never changed."""
    if next(model.parameters()).dtype == torch.float64:
        return model
    return copy.deepcopy(model).to(torch.float64, print_details=False)


def state_of(model: Any) -> State:
    """The parameters by `HookedTransformer`'s names, as they are (no copy), gradients detached."""
    own = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    return {name: own[name] for name in parameter_shapes(config_of(model))}


def factored_parts(model: Any, task: GridTask) -> tuple[State, factored.LastPosition] | None:
    """The float64 state and the exact last position of every pair; None for a model that it is not exact for."""
    if model.cfg.normalization_type is not None or factored.why_not_factored(config_of(model), task):
        return None
    state = {name: tensor.double() for name, tensor in state_of(model).items()}
    everything = torch.ones(task.p, task.p, dtype=torch.bool)
    stacked = {name: tensor[None] for name, tensor in state.items()}
    batch = factored.Batch.of_pairs(task, [everything])
    return state, factored.forward(factored.tables(stacked, factored.tokens_at(task)), batch)


@torch.no_grad()
def read_activations(model: Any, task: GridTask | None = None) -> Activations:
    """Logits, neurons, attention of the last block, and what every component writes, for all pairs.

    Raises:
        ValueError: a task that does not fit the model.
    """
    task = task_of(model, task)
    parts = factored_parts(model, task)
    return _from_cache(in_float64(model), task) if parts is None else _from_factored(*parts, task)


@torch.no_grad()
def read_logits(model: Any, task: GridTask | None = None) -> LogitGrid:
    """The logits of `read_activations` alone, in half its time."""
    task = task_of(model, task)
    parts = factored_parts(model, task)
    if parts is not None:
        return logit_grid(parts[1].logits[0], task)
    return logit_grid(in_float64(model)(task.flat_tokens()), task)


def logit_grid(output: Tensor, task: GridTask) -> LogitGrid:
    """A model's output for all pairs -> the answers' logits at the position that is read, as a float64 grid."""
    read = output[:, task.read_at, task.outputs] if output.ndim == 3 else output[:, task.outputs]
    return read.double().reshape(task.p, task.p, -1)


def _from_factored(state: State, last: factored.LastPosition, task: GridTask) -> Activations:
    w = {short_name(name): tensor for name, tensor in state.items()}
    p, (heads, d_head, d_model) = task.p, w["W_O"].shape
    z = last.z[0].view(-1, heads, d_head)
    constant = {"embed": w["W_E"][task.equals_token], "pos_embed": w["W_pos"][2]}
    writes = {name: vector.expand(p, p, d_model) for name, vector in constant.items()}
    for head in range(heads):
        writes[f"head {head}"] = (z[:, head] @ w["W_O"][head]).view(p, p, -1)
    writes["attn bias"] = w["b_O"].expand(p, p, d_model)
    writes["mlp"] = torch.addmm(w["b_out"], last.hidden[0], w["W_out"]).view(p, p, -1)
    return Activations(
        logits=logit_grid(last.logits[0], task),
        neurons=last.hidden[0].view(p, p, -1),
        attention=last.pattern[0].view(p, p, heads, -1),
        writes=writes,
    )


def _from_cache(model: Any, task: GridTask) -> Activations:
    """Any depth, through TransformerLens's cache. Names carry the layer where there is more than one."""
    layers, p = model.cfg.n_layers, task.p
    wanted = ("hook_embed", "hook_pos_embed", "hook_z", "hook_mlp_out", "hook_post", "hook_pattern")
    output, cache = model.run_with_cache(
        task.flat_tokens(), names_filter=lambda name: name.endswith(wanted), return_cache_object=False
    )

    def read(name: str) -> Tensor:
        return cache[name][:, task.read_at].reshape(p, p, *cache[name].shape[2:])

    writes: dict[str, Tensor] = {"embed": read("hook_embed"), "pos_embed": read("hook_pos_embed")}
    for layer, block in enumerate(model.blocks):
        prefix = f"L{layer} " if layers > 1 else ""
        z = read(f"blocks.{layer}.attn.hook_z")
        for head in range(z.shape[2]):
            writes[f"{prefix}head {head}"] = z[:, :, head] @ block.attn.W_O[head]
        writes[f"{prefix}attn bias"] = block.attn.b_O.expand(p, p, -1)
        if f"blocks.{layer}.hook_mlp_out" in cache:
            writes[f"{prefix}mlp"] = read(f"blocks.{layer}.hook_mlp_out")
    final = f"blocks.{layers - 1}."
    neurons = f"{final}mlp.hook_post"
    pattern = cache[f"{final}attn.hook_pattern"][:, :, task.read_at]
    return Activations(
        logits=logit_grid(output, task),
        neurons=read(neurons) if neurons in cache else torch.zeros(p, p, 0, dtype=torch.float64),
        attention=pattern.reshape(p, p, *pattern.shape[1:]),
        writes=writes,
    )


@torch.no_grad()
def read_weights(model: Any, task: GridTask | None = None) -> Weights:
    """The maps between numbers, neurons and answers, and the sum of squares of every parameter."""
    task = task_of(model, task)
    return weights_of(state_of(model), task)


def weights_of(state: Mapping[str, Tensor], task: GridTask) -> Weights:
    """`read_weights` from a state instead of a model."""
    squares: dict[str, float] = defaultdict(float)
    last: dict[str, Tensor] = {}
    for name, tensor in state.items():
        squares[short_name(name)] += tensor.double().square().sum().item()
        last[short_name(name)] = tensor.double()
    unembed = last["W_U"][:, task.outputs]
    numbers = task.tokens[:, 0, task.operands_at[0]]
    embed = last["W_E"][numbers]
    neuron_write = last.get("W_out", unembed.new_zeros(0, unembed.shape[0]))
    return Weights(
        embed=embed,
        unembed=unembed,
        neuron_write=neuron_write,
        neuron_to_logit=neuron_write @ unembed,
        head_values=torch.einsum("nd,hde,hem->hnm", embed, last["W_V"], last["W_O"]),
        logit_bias=last["b_U"][task.outputs],
        squares={name: value for name, value in squares.items() if value or name.startswith("W_")},
    )
