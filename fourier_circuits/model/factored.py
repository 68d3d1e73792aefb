"""The exact forward and backward pass of a one-layer model at the position it answers from.

At `=` the query is one constant vector per head, and keys and values depend only on (token, position). So:

1. three small tables per head hold every attention score and every value there can be (`tables`);
2. a pair (a, b) looks its three scores up, takes their softmax, and mixes its three values into z;
3. with W_O W_in, W_O W_U and W_out W_U multiplied out first, the rest is three products:
   hidden = act(z W_O W_in + c),  logits = hidden W_out W_U + z W_O W_U + d.

The same numbers as the model to rounding. Every array has a leading axis of *runs*, so that many models of one
shape advance together; a single model is a batch of one. Gradients: steps 2 and 3 by hand in buffers that are
kept (`loss_and_gradients`), step 1 by autograd.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from fourier_circuits.model.config import ModelConfig
from fourier_circuits.task import GridTask


def why_not_factored(config: ModelConfig, task: GridTask) -> str | None:
    """The reason why this forward is not exact for a model and a task; None where it is."""
    if config.n_layers != 1 or config.d_mlp == 0:
        return f"it needs one layer with an MLP, this model has {config.n_layers} layers, d_mlp={config.d_mlp}"
    if config.act_fn != "relu":
        return f"its backward pass is written for relu, this model has {config.act_fn}"
    if task.context != 3 or task.read_at not in (-1, 2) or task.operands_at != (0, 1):
        return "it needs inputs of three tokens a, b, = that are read at the last"
    a, b = task.tokens[:, 0, 0], task.tokens[0, :, 1]
    by_operand = (task.tokens[:, :, 0] == a[:, None]).all() and (task.tokens[:, :, 1] == b[None]).all()
    if task.equals_token is None or not by_operand:
        return "it needs a token that depends on a alone, one that depends on b alone, and a constant one"
    return None


@dataclass(frozen=True, eq=False)
class Tables:
    """Everything a pair looks up, for each of the runs. `hidden` counts the neurons, `out` the logits."""

    scores: tuple[Tensor, Tensor, Tensor]
    """Attention scores of a, b (run, number, head) and of `=` (run, 1, head)."""
    values: tuple[Tensor, Tensor, Tensor]
    """Values of a, b (run, number, head * d_head) and of `=` (run, 1, head * d_head)."""
    z_to_hidden: Tensor
    """W_O W_in (run, head * d_head, hidden)."""
    hidden_bias: Tensor
    z_to_logits: Tensor
    """W_O W_U, the path around the MLP (run, head * d_head, out)."""
    logit_bias: Tensor
    hidden_to_logits: Tensor
    """W_out W_U (run, hidden, out)."""

    def flat(self) -> tuple[Tensor, ...]:
        """All of them, in one fixed order."""
        return (
            *self.scores, *self.values, self.z_to_hidden, self.hidden_bias, self.z_to_logits, self.logit_bias,
            self.hidden_to_logits,
        )  # fmt: skip


def tokens_at(task: GridTask, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
    """The tokens that stand at the three positions: of every a, of every b, and of `=`."""
    tokens = task.tokens.to(device)
    return tokens[:, 0, 0].contiguous(), tokens[0, :, 1].contiguous(), tokens[0, 0, 2:].contiguous()


def tables(weights: Mapping[str, Tensor], tokens: tuple[Tensor, Tensor, Tensor]) -> Tables:
    """Multiply the weights (stacked: first axis runs) out into `Tables`; differentiable."""
    w = {name.rsplit(".", 1)[-1]: tensor for name, tensor in weights.items()}
    inputs = [w["W_E"].index_select(1, t) + w["W_pos"][:, i : i + 1] for i, t in enumerate(tokens)]
    read = inputs[2]
    query = torch.einsum("rid,rhde->rhe", read, w["W_Q"]) + w["b_Q"]
    runs, heads, _, d_head = w["W_K"].shape
    to_score = torch.einsum("rhde,rhe->rdh", w["W_K"], query) / sqrt(d_head)
    score_bias = torch.einsum("rhe,rhe->rh", w["b_K"], query)[:, None] / sqrt(d_head)
    to_value = w["W_V"].transpose(1, 2).reshape(runs, -1, heads * d_head)
    value_bias = w["b_V"].reshape(runs, 1, heads * d_head)
    out = w["W_O"].reshape(runs, heads * d_head, -1)
    base = read + w["b_O"][:, None]
    return Tables(
        scores=tuple(x @ to_score + score_bias for x in inputs),  # pyright: ignore
        values=tuple(x @ to_value + value_bias for x in inputs),  # pyright: ignore
        z_to_hidden=out @ w["W_in"],
        hidden_bias=base @ w["W_in"] + w["b_in"][:, None],
        z_to_logits=out @ w["W_U"],
        logit_bias=(base + w["b_out"][:, None]) @ w["W_U"] + w["b_U"][:, None],
        hidden_to_logits=w["W_out"] @ w["W_U"],
    )


@dataclass(frozen=True, eq=False)
class Batch:
    """The pairs that each run is evaluated on: a, b and the right answer, all (run, pair)."""

    a: Tensor
    b: Tensor
    answer: Tensor
    """The index of the right logit (not of the answer among `task.outputs`)."""
    real: Tensor
    """False for what fills up the row of a run that has fewer pairs than another."""

    @property
    def weight(self) -> Tensor:
        """What each pair counts in a mean: one over their number, or 0. NaN for a run that has none."""
        return self.real.double() / self.real.sum(dim=1, keepdim=True)

    @classmethod
    def of_pairs(cls, task: GridTask, masks: list[Tensor], device: torch.device | str = "cpu") -> "Batch":
        """One row per mask, as long as the mask that selects most."""
        pairs = [mask.nonzero() for mask in masks]
        counts = torch.tensor([len(rows) for rows in pairs])
        index = torch.nn.utils.rnn.pad_sequence(pairs, batch_first=True)
        real = torch.arange(index.shape[1]) < counts[:, None]
        a, b = index[..., 0], index[..., 1]
        return cls(a.to(device), b.to(device), task.outputs[task.answers[a, b]].to(device), real.to(device))


class Buffers:
    """Memory that `forward` and `loss_and_gradients` write into, kept from step to step."""

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def get(self, name: str, shape: tuple[int, ...], like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """The buffer of that name, made anew when its shape, dtype or device is not the one asked for."""
        kept, dtype = self._kept.get(name), dtype or like.dtype
        if kept is None or kept.shape != shape or kept.dtype != dtype or kept.device != like.device:
            kept = self._kept[name] = torch.empty(shape, dtype=dtype, device=like.device)
        return kept


@dataclass(frozen=True, eq=False)
class LastPosition:
    """What the forward pass computed, per run and pair."""

    pattern: Tensor
    """(run, pair, head, 3)."""
    values: tuple[Tensor, ...]
    """What each key position offers: three of (run, pair or 1, head, d_head)."""
    z: Tensor
    """(run, pair, head * d_head)."""
    hidden: Tensor
    """After the activation: (run, pair, hidden)."""
    logits: Tensor
    """(run, pair, out)."""


def _looked_up(table: Tensor, index: Tensor, into: Tensor | None = None) -> Tensor:
    """Rows of a (run, number, width) table at a (run, pair) index."""
    runs, numbers, width = table.shape
    if numbers == 1:
        return table
    flat = (index + numbers * torch.arange(runs, device=index.device)[:, None]).reshape(-1)
    out = None if into is None else into.view(-1, width)
    return torch.index_select(table.reshape(runs * numbers, width), 0, flat, out=out).view(runs, -1, width)


def forward(t: Tables, batch: Batch, buffers: Buffers | None = None) -> LastPosition:
    """The last position of every pair of the batch."""
    buffers = buffers or Buffers()
    index = (batch.a, batch.b, batch.a)
    runs, pairs = batch.a.shape
    heads, width = t.scores[0].shape[-1], t.values[0].shape[-1]
    scores = [_looked_up(table, i).expand(runs, pairs, heads) for table, i in zip(t.scores, index, strict=True)]
    pattern = torch.softmax(torch.stack(scores, dim=-1), dim=-1)
    z = buffers.get("z", (runs, pairs, width), pattern)
    values = [
        _looked_up(table, i, buffers.get(f"value_{key}", (runs, pairs, width), z)).view(runs, -1, heads, width // heads)
        for key, (table, i) in enumerate(zip(t.values, index, strict=True))
    ]
    by_head = z.view(runs, pairs, heads, -1)
    torch.mul(pattern[..., 0, None], values[0], out=by_head)
    for key in (1, 2):
        by_head.addcmul_(pattern[..., key, None], values[key])
    hidden = buffers.get("hidden", (runs, pairs, t.z_to_hidden.shape[2]), z)
    torch.baddbmm(t.hidden_bias, z, t.z_to_hidden, out=hidden).relu_()
    logits = buffers.get("logits", (runs, pairs, t.z_to_logits.shape[2]), z)
    torch.baddbmm(t.logit_bias, z, t.z_to_logits, out=logits).baddbmm_(hidden, t.hidden_to_logits)
    return LastPosition(pattern, tuple(values), z, hidden, logits)


def cross_entropy(logits: Tensor, batch: Batch, dtype: torch.dtype = torch.float64) -> Tensor:
    """Mean cross entropy of each run over its pairs, (run,), with the log-softmax in `dtype`."""
    log_p = torch.log_softmax(logits.to(dtype), dim=-1)
    return -(log_p.gather(2, batch.answer[..., None])[..., 0] * batch.weight).sum(dim=1)


def accuracy(logits: Tensor, batch: Batch) -> Tensor:
    """Share of its pairs that each run answers right, (run,)."""
    right = (logits.argmax(dim=-1) == batch.answer) & batch.real
    return right.sum(dim=1).double() / batch.real.sum(dim=1)


@torch.no_grad()
def loss_and_gradients(
    t: Tables, batch: Batch, buffers: Buffers, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Mean cross entropy of each run over all its logits, (run,), and its gradient for each table of `t.flat()`."""
    out = forward(t, batch, buffers)
    runs, pairs, heads, _ = out.pattern.shape
    exact = buffers.get("exact", tuple(out.logits.shape), out.logits, dtype).copy_(out.logits)
    log_p = buffers.get("log_p", tuple(out.logits.shape), out.logits, dtype)
    torch.ops.aten._log_softmax.out(exact, -1, False, out=log_p)
    answer = batch.answer[..., None]
    loss = -(log_p.gather(2, answer)[..., 0] * batch.weight).sum(dim=1)
    d_log = log_p.exp_()
    d_log.scatter_add_(2, answer, torch.full_like(answer, -1, dtype=dtype))
    d_logits = out.logits.copy_(d_log.mul_(batch.weight[..., None]))

    d_hidden = buffers.get("d_hidden", tuple(out.hidden.shape), out.hidden)
    torch.bmm(d_logits, t.hidden_to_logits.transpose(1, 2), out=d_hidden)
    torch.ops.aten.threshold_backward.grad_input(d_hidden, out.hidden, 0, grad_input=d_hidden)
    d_z = buffers.get("d_z", tuple(out.z.shape), out.z)
    torch.bmm(d_logits, t.z_to_logits.transpose(1, 2), out=d_z)
    d_z.baddbmm_(d_hidden, t.z_to_hidden.transpose(1, 2))

    index = (batch.a, batch.b, batch.a)
    by_head = d_z.view(runs, pairs, heads, -1)
    product = buffers.get("product", tuple(by_head.shape), d_z)
    d_values, d_pattern = [], torch.empty_like(out.pattern)
    for key, (table, i) in enumerate(zip(t.values, index, strict=True)):
        torch.mul(by_head, out.values[key], out=product)
        torch.sum(product, dim=-1, out=d_pattern[..., key])
        torch.mul(by_head, out.pattern[..., key, None], out=product)
        d_values.append(_summed_over_pairs(product.view(runs, pairs, -1), i, table.shape[1]))
    d_scores = torch.ops.aten._softmax_backward_data(d_pattern, out.pattern, -1, out.pattern.dtype)
    d_scores = [
        _summed_over_pairs(d_scores[..., key], i, table.shape[1])
        for key, (table, i) in enumerate(zip(t.scores, index, strict=True))
    ]
    z_t, hidden_t = out.z.transpose(1, 2), out.hidden.transpose(1, 2)
    gradients = (
        *d_scores,
        *d_values,
        torch.bmm(z_t, d_hidden),
        d_hidden.sum(dim=1, keepdim=True),
        torch.bmm(z_t, d_logits),
        d_logits.sum(dim=1, keepdim=True),
        torch.bmm(hidden_t, d_logits),
    )
    return loss, gradients


def _summed_over_pairs(per_pair: Tensor, index: Tensor, numbers: int) -> Tensor:
    """The transpose of `_looked_up`: (run, pair, width) added up into a (run, number, width) table."""
    runs, _, width = per_pair.shape
    if numbers == 1:
        return per_pair.sum(dim=1, keepdim=True)
    flat = index + numbers * torch.arange(runs, device=index.device)[:, None]
    table = torch.zeros(runs * numbers, width, dtype=per_pair.dtype, device=per_pair.device)
    return table.index_add_(0, flat.reshape(-1), per_pair.reshape(-1, width)).view(runs, numbers, width)
