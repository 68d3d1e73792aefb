"""A model -> its activations on the grid and its weights, in float64 whatever the model's own dtype.

This is the only file that reshapes what a model gives: the position that is read, the logits of the answers (that of
`=` is dropped), a grid over (a, b).
"""

from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor

from fourier_circuits.arrays import Activations, LogitGrid, Weights
from fourier_circuits.model import factored
from fourier_circuits.model.lens import LensModel, in_float64, state_of, task_of
from fourier_circuits.model.state import State, config_of_shapes, parameter_shapes, short_name
from fourier_circuits.task import GridTask


def factored_parts(model: LensModel, task: GridTask) -> tuple[State, factored.LastPosition] | None:
    """The float64 state and the exact last position of every pair; None for a model that it is not exact for.

    A model may say that it is of this kind and compute something else (a scale, a hook that stays): what it answers to
    a few pairs is compared.
    """
    cfg = getattr(model, "cfg", None)
    if getattr(cfg, "normalization_type", "unknown") is not None or getattr(cfg, "act_fn", None) != "relu":
        return None
    state = {name: tensor.double() for name, tensor in state_of(model).items()}
    if "pos_embed.W_pos" not in state:
        return None
    config = config_of_shapes(state)
    if factored.why_not_factored(config, task):
        return None
    state = {name: state.get(name, torch.zeros(shape).double()) for name, shape in parameter_shapes(config).items()}
    everything = torch.ones(task.p, task.p, dtype=torch.bool)
    stacked = {name: tensor[None] for name, tensor in state.items()}
    batch = factored.Batch.of_pairs(task, [everything])
    last = factored.forward(factored.tables(stacked, factored.tokens_at(task)), batch)
    few = torch.linspace(0, task.p**2 - 1, 7).long()
    theirs = model.run_with_hooks(task.flat_tokens()[few], fwd_hooks=[])[:, task.read_at].double()
    near = 1e-3 * (1 + theirs.abs().max())
    return (state, last) if (last.logits[0, few] - theirs).abs().max() < near else None


@torch.no_grad()
def read_activations(model: LensModel, task: GridTask | None = None) -> Activations:
    """Logits, neurons, attention of the last block, and what every component writes, for all pairs.

    Raises:
        ValueError: a task that does not fit the model.
    """
    task = task_of(model, task)
    parts = factored_parts(model, task)
    return _from_cache(in_float64(model), task) if parts is None else _from_factored(*parts, task)


@torch.no_grad()
def read_logits(model: LensModel, task: GridTask | None = None) -> LogitGrid:
    """The logits of `read_activations` alone, in half its time."""
    task = task_of(model, task)
    parts = factored_parts(model, task)
    if parts is not None:
        return logit_grid(parts[1].logits[0], task)
    return logit_grid(in_float64(model).run_with_hooks(task.flat_tokens(), fwd_hooks=[]), task)


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


def _from_cache(model: LensModel, task: GridTask) -> Activations:
    """Any depth, through TransformerLens's cache. Names carry the layer where there is more than one."""
    state, p = state_of(model), task.p
    has_mlp = [f"blocks.{layer}.mlp.W_in" in state for layer in range(len(model.blocks))]
    last = f"blocks.{len(has_mlp) - 1}."
    wanted = ["hook_embed", f"{last}attn.hook_pattern", *([f"{last}mlp.hook_post"] if has_mlp[-1] else [])]
    if "pos_embed.W_pos" in state:
        wanted.append("hook_pos_embed")
    for layer, mlp in enumerate(has_mlp):
        wanted += [f"blocks.{layer}.attn.hook_z", *([f"blocks.{layer}.hook_mlp_out"] if mlp else [])]
    output, cache = model.run_with_cache(task.flat_tokens(), names_filter=wanted)

    def read(name: str) -> Tensor:
        return cache[name][:, task.read_at].reshape(p, p, *cache[name].shape[2:])

    writes = {name.removeprefix("hook_"): read(name) for name in ("hook_embed", "hook_pos_embed") if name in wanted}
    for layer, mlp in enumerate(has_mlp):
        block, prefix = f"blocks.{layer}.", f"L{layer} " if len(has_mlp) > 1 else ""
        z = read(f"{block}attn.hook_z")
        for head in range(z.shape[2]):
            writes[f"{prefix}head {head}"] = z[:, :, head] @ state[f"{block}attn.W_O"][head]
        if f"{block}attn.b_O" in state:
            writes[f"{prefix}attn bias"] = state[f"{block}attn.b_O"].expand(p, p, -1)
        if mlp:
            writes[f"{prefix}mlp"] = read(f"{block}hook_mlp_out")
    pattern = cache[f"{last}attn.hook_pattern"][:, :, task.read_at]
    return Activations(
        logits=logit_grid(output, task),
        neurons=read(f"{last}mlp.hook_post") if has_mlp[-1] else torch.zeros(p, p, 0, dtype=torch.float64),
        attention=pattern.reshape(p, p, *pattern.shape[1:]),
        writes=_normalised(model, writes),
    )


def _normalised(model: LensModel, writes: dict[str, Tensor]) -> dict[str, Tensor]:
    """The writes as the unembedding reads them: through the final LayerNorm, with the scale that it had for each pair.

    LayerNorm is linear once its scale is known, so the parts still add up to the whole.
    """
    kind = getattr(getattr(model, "cfg", None), "normalization_type", None)
    if kind is None:
        return writes
    if kind not in ("LN", "LNPre"):
        raise ValueError(f"the residual stream can be split up to a final LayerNorm (LN, LNPre), this model has {kind}")
    stream = torch.stack(list(writes.values())).sum(dim=0)
    eps = model.cfg.eps  # pyright: ignore[reportAttributeAccessIssue]
    scale = (stream.var(dim=-1, correction=0, keepdim=True) + eps).sqrt()
    through = {name: (grid - grid.mean(dim=-1, keepdim=True)) / scale for name, grid in writes.items()}
    if kind == "LN":
        final = model.ln_final  # pyright: ignore[reportAttributeAccessIssue]
        weight, bias = (final.w, final.b) if hasattr(final, "w") else (final.weight, final.bias)
        through = {name: grid * weight for name, grid in through.items()}
        through["final LayerNorm bias"] = bias.expand_as(stream)
    return through


@torch.no_grad()
def read_weights(model: LensModel, task: GridTask | None = None) -> Weights:
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
        logit_bias=last["b_U"][task.outputs] if "b_U" in last else unembed.new_zeros(len(task.outputs)),
        squares={name: value for name, value in squares.items() if value or name.startswith("W_")},
    )
