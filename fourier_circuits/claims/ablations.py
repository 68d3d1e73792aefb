"""What it costs: losses after replacing, removing or keeping parts of the network."""

import torch

from fourier_circuits.ablation import ablate
from fourier_circuits.analysis.circuit import cosine_fit, head_fits, polynomial_neurons
from fourier_circuits.analysis.losses import accuracy, excluded_loss_each, restricted_loss
from fourier_circuits.claims.subject import Measured, Measurement, Subject
from fourier_circuits.model.hooks import edited_logits


def _cosine_loss(s: Subject) -> Measured:
    loss = s.loss_of(cosine_fit(s.activations.logits, s.answers, s.freqs).logits)
    return Measured(s.change(loss), {"full": s.loss, "fit": loss}, loss < s.loss)


def _polynomials(s: Subject) -> Measured:
    loss = s.loss_with_neurons(polynomial_neurons(s.activations.neurons, s.neurons))
    return Measured(s.change(loss), {"full": s.loss, "replaced": loss}, loss <= 2 * s.loss)


def _sum_only(s: Subject) -> Measured:
    loss = restricted_loss(s.activations.logits, s.answers, s.freqs)
    return Measured(s.change(loss), {"full": s.loss, "restricted": loss}, loss < s.loss)


def _on_read_off(s: Subject) -> Measured:
    loss = s.loss_with_neurons(s.read_off)
    return Measured(s.change(loss), {"full": s.loss, "projected": loss}, loss < s.loss)


def _off_read_off(s: Subject) -> Measured:
    loss = s.loss_with_neurons(s.activations.neurons - s.read_off)
    return Measured(f"{loss:.3g} (uniform: {s.chance:.2f})", loss, loss > s.chance)


def _each_frequency(s: Subject) -> Measured:
    both = {}
    for directions in ("sum", "block"):
        losses = excluded_loss_each(s.activations.logits, s.answers, s.basis.frequencies, directions=directions)
        both[directions] = {k: loss / s.loss for k, loss in losses.items()}
    ratios = both["sum"]
    key = ", ".join(f"{k}: {ratios[k] * s.loss:.2g}" for k in s.freqs)
    others = {k: abs(ratio - 1) for k, ratio in ratios.items() if k not in s.freqs}
    worst = max(others, key=lambda k: others[k])
    worst_block = max(abs(r - 1) for k, r in both["block"].items() if k not in s.freqs)
    text = (
        f"loss {s.loss:.3g} -> {key}; every other changes it by at most {others[worst]:.1%} (frequency {worst}), "
        f"with blocks by {worst_block:.1%}"
    )
    holds = all(ratios[k] >= 10 for k in s.freqs) and others[worst] < 0.1
    return Measured(text, {name: {str(k): r for k, r in rows.items()} for name, rows in both.items()}, holds)


def _blocks_only(s: Subject) -> Measured:
    loss = restricted_loss(s.activations.logits, s.answers, s.freqs, directions="block")
    return Measured(s.change(loss), {"full": s.loss, "restricted": loss}, loss < s.loss)


def _slogan(s: Subject) -> Measured:
    options = {"train": s.run.train_pairs, "task": s.task}
    without, only = ablate(s.model, s.freqs, **options), ablate(s.model, s.freqs, keep=True, **options)
    text = f"full {s.loss:.3g}; without them {without.loss:.3g}; with nothing else {only.loss:.3g}"
    for name, w, o in (("train", without.train, only.train), ("test", without.test, only.test)):
        if w is not None and o is not None:
            text += f"; {name} pairs: {w.baseline_loss:.3g}, {w.loss:.3g}, {o.loss:.3g}"
    value = {"full": s.loss, "removed": without.loss, "kept": only.loss}
    return Measured(text, value, without.loss > s.chance and only.loss < s.loss)


def _drop_clusters(s: Subject) -> Measured:
    losses = {}
    for k in s.freqs:
        losses[k] = s.loss_with_neurons(polynomial_neurons(s.activations.neurons, s.neurons, drop=k))
    text = ", ".join(f"{k}: {loss:.2g}" for k, loss in losses.items())
    return Measured(text, {str(k): v for k, v in losses.items()}, min(losses.values()) >= 10 * s.loss)


def _attention_to_equals(s: Subject) -> Measured:
    share = s.activations.attention[..., 2].mean(dim=(0, 1)).tolist()

    def without(pattern: torch.Tensor) -> torch.Tensor:
        operands = pattern.clone()
        operands[..., 2] = 0
        return operands / operands.sum(dim=-1, keepdim=True)

    loss = s.loss_with(attn_pattern=without)
    text = f"{', '.join(f'{x:.2%}' for x in share)}; {s.change(loss)}"
    holds = max(share) <= 0.01 and abs(loss / s.loss - 1) < 0.1
    return Measured(text, {"share": share, "full": s.loss, "ablated": loss}, holds)


def _mlp_skip(s: Subject) -> Measured:
    mid = sum(grid for name, grid in s.activations.writes.items() if name != "mlp")
    mean = torch.as_tensor(mid).mean(dim=(0, 1))
    zeroed = edited_logits(s.model, s.task, {"resid_post": lambda grid: grid - mid}).logits
    zero, averaged = s.loss_of(zeroed), s.loss_with(resid_post=lambda grid: grid - mid + mean)
    text = f"{s.loss:.3g} -> {zero:.3g} (zero), {averaged:.3g} (mean)"
    return Measured(text, {"zero": zero, "mean": averaged}, accuracy(zeroed, s.answers) > 0.99)


def _attention_matters(s: Subject) -> Measured:
    before = s.activations.writes["embed"] + s.activations.writes["pos_embed"]
    heads, skip = s.loss_with(attn_out=torch.zeros_like), s.loss_with(resid_mid=lambda grid: grid - before)
    text = f"{heads:.3g} without the heads, {skip:.3g} without the path around them"
    return Measured(text, {"heads": heads, "skip": skip}, min(heads, skip) > s.chance)


def _linear_attention(s: Subject) -> Measured:
    _, patterns = head_fits(s.activations.attention)
    loss = s.loss_with(attn_pattern=lambda _: patterns)
    return Measured(s.change(loss), {"full": s.loss, "linear": loss}, loss <= 2 * s.loss)


ABLATIONS: dict[str, Measurement] = {
    "Q10": _cosine_loss,
    "Q14": _polynomials,
    "Q15": _sum_only,
    "Q16": _on_read_off,
    "Q17": _off_read_off,
    "Q18": _each_frequency,
    "Q19": _blocks_only,
    "Q20": _slogan,
    "Q21": _drop_clusters,
    "Q22": _attention_to_equals,
    "Q23": _mlp_skip,
    "Q24": _attention_matters,
    "Q27": _linear_attention,
}
