"""`reproduce(run)`: every claim of the paper that one run can answer, its printed value beside ours.

A claim's measurement returns text to read, a value to compute with, and whether the claim's criterion holds
(`paper.PrintedClaim.holds_if`); nothing here is tuned to a run.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from math import cos, log, pi
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from fourier_circuits.ablation import ablate
from fourier_circuits.analysis.circuit import (
    cosine_fit,
    head_fits,
    head_spectra,
    map_residual,
    on_directions,
    polynomial_neurons,
    read_off,
    read_off_directions,
    with_neurons,
)
from fourier_circuits.analysis.frequencies import (
    KeyFrequencies,
    NeuronFrequencies,
    key_by_spectrum,
    neuron_frequencies,
    power_shares,
)
from fourier_circuits.analysis.losses import accuracy, excluded_loss_each, full_loss, restricted_loss
from fourier_circuits.analysis.progress import Phases, ProgressMeasures, phases
from fourier_circuits.arrays import Activations, Weights
from fourier_circuits.dynamics import progress_measures
from fourier_circuits.fourier.basis import fourier_basis
from fourier_circuits.fourier.grid import transform
from fourier_circuits.identification import key_frequencies
from fourier_circuits.model.hooks import Edit, edited_logits
from fourier_circuits.model.read import in_float64, read_activations, read_weights
from fourier_circuits.paper import PAPER, PrintedClaim
from fourier_circuits.training.run import Run


class Measured(NamedTuple):
    """What a measurement gives."""

    text: str
    value: Any
    """A number, or a list or dict of numbers."""
    holds: bool


@dataclass(frozen=True)
class Claim:
    """One row of the table."""

    id: str
    printed: PrintedClaim
    ours: Measured

    @property
    def verdict(self) -> str:
        """ "holds" or "differs", by `printed.holds_if`."""
        return "holds" if self.ours.holds else "differs"


@dataclass(frozen=True, eq=False)
class Reproduction:
    """The paper's claims on one run."""

    run: Run
    epoch: int
    """The checkpoint that the claims about the trained network are measured on."""
    freqs: KeyFrequencies
    claims: tuple[Claim, ...]
    measures: ProgressMeasures
    phases: Phases

    def to_frame(self) -> pd.DataFrame:
        """One row per claim."""
        return pd.DataFrame(
            [
                {
                    "id": c.id,
                    "where": c.printed.where,
                    "claim": c.printed.sentence,
                    "paper": c.printed.printed,
                    "ours": c.ours.text,
                    "verdict": c.verdict,
                    "holds_if": c.printed.holds_if,
                    "definition": c.printed.definition,
                    "comparable": c.printed.comparable,
                }
                for c in self.claims
            ]
        ).set_index("id")

    def to_dict(self) -> dict[str, Any]:
        """The table and its circumstances, for JSON; every claim also with its value as numbers."""
        rows = self.to_frame().reset_index().to_dict(orient="records")
        for row, claim in zip(rows, self.claims, strict=True):
            row["value"] = claim.ours.value
        return {
            "run": {"config": self.run.config.to_dict(), **self.run.about},
            "epoch": self.epoch,
            "key_frequencies": list(self.freqs),
            "key_frequencies_rule": f"{self.freqs.rule}: {self.freqs.criterion}",
            "claims": rows,
        }


def reproduce(run: Run, epoch: int | None = None) -> Reproduction:
    """Measure every claim of `PAPER` on a run.

    Args:
        run: a trained run; its stored measures are used, and taken now if it has none.
        epoch: the checkpoint for the claims about the trained network; the last, if None.

    Raises:
        ValueError: a model of more than one layer, or one without key frequencies (it has not grokked).
        FileNotFoundError: no checkpoint at that epoch, no losses.
    """
    if run.config.model.n_layers != 1 or run.config.model.d_mlp == 0:
        raise ValueError(
            "the paper's claims are about one layer with an MLP; for other models use ablate, key_frequencies and "
            "residual_table"
        )
    subject = _Subject(run, run.epochs[-1] if epoch is None and run.epochs else epoch)
    if not subject.freqs:
        raise ValueError(
            f"{str(run.path)!r} at epoch {subject.epoch} has no key frequencies ({subject.freqs!r}): "
            "it has not grokked, so there is no circuit to measure"
        )
    claims = tuple(Claim(id, printed, _MEASURE[id](subject)) for id, printed in PAPER.items())
    return Reproduction(run, subject.epoch, subject.freqs, claims, subject.measures, phases(subject.measures))


class _Subject:
    """A run with everything about it that several claims need, each read once."""

    def __init__(self, run: Run, epoch: int | None) -> None:
        self.run = run
        self.model = in_float64(run.model(epoch))
        self.epoch = epoch if epoch is not None else 0
        self.task = run.task
        self.answers = self.task.answers
        self.basis = fourier_basis(self.task.p)
        self.chance = log(self.task.p)

    @cached_property
    def activations(self) -> Activations:
        return read_activations(self.model, self.task)

    @cached_property
    def weights(self) -> Weights:
        return read_weights(self.model, self.task)

    @cached_property
    def freqs(self) -> KeyFrequencies:
        return key_frequencies(self.activations, task=self.task)

    @cached_property
    def neurons(self) -> NeuronFrequencies:
        return neuron_frequencies(self.activations.neurons)

    @cached_property
    def loss(self) -> float:
        return full_loss(self.activations.logits, self.answers)

    @cached_property
    def measures(self) -> ProgressMeasures:
        try:
            stored = self.run.measures()
        except FileNotFoundError:
            return progress_measures(self.run, freqs=self.freqs)
        wanted = {f"excluded_{k}_loss" for k in self.freqs}
        have = {name for name in stored.columns if name.removeprefix("excluded_").removesuffix("_loss").isdecimal()}
        if wanted != have:
            return progress_measures(self.run, freqs=self.freqs)
        return ProgressMeasures(stored, tuple(self.freqs))

    @cached_property
    def read_off(self) -> torch.Tensor:
        """The neurons' part in the span that W_L reads."""
        directions = read_off_directions(self.weights.neuron_to_logit, self.freqs)
        return on_directions(self.activations.neurons, directions)

    def loss_of(self, logits: torch.Tensor) -> float:
        return full_loss(logits, self.answers)

    def loss_with_neurons(self, neurons: torch.Tensor) -> float:
        a = self.activations
        return self.loss_of(with_neurons(a.logits, a.neurons, neurons, self.weights.neuron_to_logit))

    def loss_with(self, **edits: Edit) -> float:
        return self.loss_of(edited_logits(self.model, self.task, edits).logits)

    def change(self, loss: float) -> str:
        """From the full loss to this one, in per cent or, where it is more than doubled, as a factor."""
        ratio = loss / self.loss
        return f"{self.loss:.3g} -> {loss:.3g} ({f'{ratio - 1:+.0%}' if ratio < 2 else f'{ratio:.3g} times'})"


_MEASURE: dict[str, Callable[[_Subject], Measured]] = {}


def _measures(id: str) -> Callable[[Callable[[_Subject], Measured]], Callable[[_Subject], Measured]]:
    def register(function: Callable[[_Subject], Measured]) -> Callable[[_Subject], Measured]:
        _MEASURE[id] = function
        return function

    return register


def _first(frame: pd.DataFrame, condition: Iterable[bool]) -> int | None:
    """The first epoch at which a condition holds."""
    places = np.flatnonzero(np.asarray(condition))
    return int(frame.index[places[0]]) if len(places) else None


def _percent(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.1%}" for value in values)


def _epoch(epoch: int | None) -> str:
    return "never" if epoch is None else f"{epoch:,}"


@_measures("Q1")
def _grokking(s: _Subject) -> Measured:
    logged = s.run.losses().dropna(subset=["test_accuracy"])
    train, test = (_first(logged, logged[f"{n}_accuracy"] >= at) for n, at in (("train", 1.0), ("test", 0.99)))
    text = f"train accuracy 100% at epoch {_epoch(train)}, test accuracy 99% at {_epoch(test)}"
    return Measured(text, {"train": train, "test": test}, train is not None and test is not None and test >= 10 * train)


@_measures("Q2")
def _embedding_spectrum(s: _Subject) -> Measured:
    found = key_by_spectrum(s.weights.embed, "embedding")
    share = power_shares(s.weights.embed)[[k - 1 for k in found]].sum().item()
    text = f"{len(found)} frequencies ({', '.join(map(str, found))}) hold {share:.1%}; used later: {len(s.freqs)}"
    return Measured(text, {"frequencies": list(found), "share": share}, len(found) <= 10 and share >= 0.8)


@_measures("Q3")
def _map_spectrum(s: _Subject) -> Measured:
    share = power_shares(s.weights.neuron_to_logit.T)[[k - 1 for k in s.freqs]].sum().item()
    text = f"{share:.1%} in the key frequencies {', '.join(map(str, s.freqs))}"
    return Measured(text, share, share >= 0.95)


@_measures("Q4")
def _attention_periodic(s: _Subject) -> Measured:
    fit = head_fits(s.activations.attention)[0][0]
    fve = fit.fraction_of_variance_explained
    return Measured(f"frequency {fit.frequency}, {fve:.1%} explained", {"k": fit.frequency, "share": fve}, fve > 0.9)


@_measures("Q5")
def _neuron_periodic(s: _Subject) -> Measured:
    k, share = int(s.neurons.frequency[0]), s.neurons.share[0].item()
    return Measured(f"frequency {k}, {share:.1%} explained", {"k": k, "share": share}, share > 0.85)


@_measures("Q6")
def _logit_components(s: _Subject) -> Measured:
    norms = transform(s.activations.logits, s.basis).norm(dim=-1)
    norms[0, 0] = 0
    large = {(int(i), int(j)) for i, j in (norms > 0.3 * norms.max()).nonzero()}
    expected = {(i, j) for k in s.freqs for i in s.basis.components(k) for j in s.basis.components(k)}
    inside = len(large & expected)
    text = f"{len(large)} components, {inside} of them in the {len(expected)} of the {len(s.freqs)} key frequencies"
    return Measured(text, {"components": len(large), "expected": len(expected)}, large == expected)


@_measures("Q7")
def _map_rank(s: _Subject) -> Measured:
    ratio = map_residual(s.weights.neuron_to_logit, s.freqs)
    text = f"{ratio:.2%} of the norm, {ratio**2:.2%} of its square, at rank {2 * len(s.freqs)}"
    return Measured(text, {"norms": ratio, "squares": ratio**2}, ratio**2 <= 0.01)


@_measures("Q8")
def _read_off(s: _Subject) -> Measured:
    rows = read_off(s.activations.neurons, s.weights.neuron_to_logit, s.freqs)
    value = {row.label: row.fraction_of_variance_explained for row in rows}
    largest = ", ".join(f"{row.coefficients[0]:.1f} and {row.coefficients[1]:.1f} ({row.label})" for row in rows[:2])
    text = ", ".join(f"{label} {fve:.1%}" for label, fve in value.items()) + f"; amplitudes {largest}, ..."
    return Measured(text, value, min(value.values()) > 0.9)


@_measures("Q9")
def _cosines(s: _Subject) -> Measured:
    fit = cosine_fit(s.activations.logits, s.answers, s.freqs)
    fve = fit.fraction_of_variance_explained
    alphas = ", ".join(f"{alpha:.1f} ({k})" for k, alpha in zip(fit.freqs, fit.coefficients, strict=True))
    return Measured(f"{fve:.1%}; coefficients {alphas}", {"share": fve, "alpha": list(fit.coefficients)}, fve >= 0.9)


@_measures("Q10")
def _cosine_loss(s: _Subject) -> Measured:
    loss = s.loss_of(cosine_fit(s.activations.logits, s.answers, s.freqs).logits)
    return Measured(s.change(loss), {"full": s.loss, "fit": loss}, loss < s.loss)


@_measures("Q11")
def _neurons_explained(s: _Subject) -> Measured:
    count, total = sum(len(c) for c in s.neurons.clusters().values()), len(s.neurons.share)
    text = f"{count} of {total} ({count / total:.1%}); median share {s.neurons.share.median().item():.1%}"
    return Measured(text, {"neurons": count, "of": total}, count > total / 2)


@_measures("Q12")
def _clusters(s: _Subject) -> Measured:
    sizes = {k: len(cluster) for k, cluster in s.neurons.clusters().items()}
    none = len(s.neurons.share) - sum(sizes.values())
    text = ", ".join(f"{k}: {n}" for k, n in sizes.items()) + f"; none: {none}"
    return Measured(text, {**{str(k): n for k, n in sizes.items()}, "none": none}, set(s.freqs) <= set(sizes))


@_measures("Q13")
def _cluster_map(s: _Subject) -> Measured:
    shares = {}
    for k in s.freqs:
        rows = s.weights.neuron_to_logit[s.neurons.cluster(k)]
        shares[k] = power_shares(rows.T)[k - 1].item()
    text = ", ".join(f"{k}: {share:.1%}" for k, share in shares.items())
    return Measured(text, {str(k): v for k, v in shares.items()}, min(shares.values()) >= 0.9)


@_measures("Q14")
def _polynomials(s: _Subject) -> Measured:
    loss = s.loss_with_neurons(polynomial_neurons(s.activations.neurons, s.neurons))
    return Measured(s.change(loss), {"full": s.loss, "replaced": loss}, loss <= 2 * s.loss)


@_measures("Q15")
def _sum_only(s: _Subject) -> Measured:
    loss = restricted_loss(s.activations.logits, s.answers, s.freqs)
    return Measured(s.change(loss), {"full": s.loss, "restricted": loss}, loss < s.loss)


@_measures("Q16")
def _on_read_off(s: _Subject) -> Measured:
    loss = s.loss_with_neurons(s.read_off)
    return Measured(s.change(loss), {"full": s.loss, "projected": loss}, loss < s.loss)


@_measures("Q17")
def _off_read_off(s: _Subject) -> Measured:
    loss = s.loss_with_neurons(s.activations.neurons - s.read_off)
    return Measured(f"{loss:.3g} (uniform: {s.chance:.2f})", loss, loss > s.chance)


@_measures("Q18")
def _each_frequency(s: _Subject) -> Measured:
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


@_measures("Q19")
def _blocks_only(s: _Subject) -> Measured:
    loss = restricted_loss(s.activations.logits, s.answers, s.freqs, directions="block")
    return Measured(s.change(loss), {"full": s.loss, "restricted": loss}, loss < s.loss)


@_measures("Q20")
def _slogan(s: _Subject) -> Measured:
    options = {"train": s.run.train_pairs, "task": s.task}
    without, only = ablate(s.model, s.freqs, **options), ablate(s.model, s.freqs, keep=True, **options)
    text = f"full {s.loss:.3g}; without them {without.loss:.3g}; with nothing else {only.loss:.3g}"
    for name, w, o in (("train", without.train, only.train), ("test", without.test, only.test)):
        if w is not None and o is not None:
            text += f"; {name} pairs: {w.baseline_loss:.3g}, {w.loss:.3g}, {o.loss:.3g}"
    value = {"full": s.loss, "removed": without.loss, "kept": only.loss}
    return Measured(text, value, without.loss > s.chance and only.loss < s.loss)


@_measures("Q21")
def _drop_clusters(s: _Subject) -> Measured:
    losses = {}
    for k in s.freqs:
        losses[k] = s.loss_with_neurons(polynomial_neurons(s.activations.neurons, s.neurons, drop=k))
    text = ", ".join(f"{k}: {loss:.2g}" for k, loss in losses.items())
    return Measured(text, {str(k): v for k, v in losses.items()}, min(losses.values()) >= 10 * s.loss)


@_measures("Q22")
def _attention_to_equals(s: _Subject) -> Measured:
    share = s.activations.attention[..., 2].mean(dim=(0, 1)).tolist()

    def without(pattern: torch.Tensor) -> torch.Tensor:
        operands = pattern.clone()
        operands[..., 2] = 0
        return operands / operands.sum(dim=-1, keepdim=True)

    loss = s.loss_with(attn_pattern=without)
    text = f"{', '.join(f'{x:.2%}' for x in share)}; {s.change(loss)}"
    holds = max(share) <= 0.01 and abs(loss / s.loss - 1) < 0.1
    return Measured(text, {"share": share, "full": s.loss, "ablated": loss}, holds)


@_measures("Q23")
def _mlp_skip(s: _Subject) -> Measured:
    mid = sum(grid for name, grid in s.activations.writes.items() if name != "mlp")
    mean = torch.as_tensor(mid).mean(dim=(0, 1))
    zeroed = edited_logits(s.model, s.task, {"resid_post": lambda grid: grid - mid}).logits
    zero, averaged = s.loss_of(zeroed), s.loss_with(resid_post=lambda grid: grid - mid + mean)
    text = f"{s.loss:.3g} -> {zero:.3g} (zero), {averaged:.3g} (mean)"
    return Measured(text, {"zero": zero, "mean": averaged}, accuracy(zeroed, s.answers) > 0.99)


@_measures("Q24")
def _attention_matters(s: _Subject) -> Measured:
    before = s.activations.writes["embed"] + s.activations.writes["pos_embed"]
    heads, skip = s.loss_with(attn_out=torch.zeros_like), s.loss_with(resid_mid=lambda grid: grid - before)
    text = f"{heads:.3g} without the heads, {skip:.3g} without the path around them"
    return Measured(text, {"heads": heads, "skip": skip}, min(heads, skip) > s.chance)


@_measures("Q25")
def _ambiguous_cosine(s: _Subject) -> Measured:
    printed = cos(2 * pi * 14 * 8 / 113)
    k, p = s.freqs[0], s.task.p
    wrong = max(range(1, p), key=lambda d: cos(2 * pi * k * d / p))
    text = f"{printed:.3f}; ours: cos(2 pi {k} * {wrong} / {p}) = {cos(2 * pi * k * wrong / p):.3f}"
    return Measured(text, printed, round(printed, 3) == 0.998)


@_measures("Q26")
def _head_fits(s: _Subject) -> Measured:
    fits, _ = head_fits(s.activations.attention)
    rows = [(f.frequency, f.alpha, f.beta, f.fraction_of_variance_explained) for f in fits]
    text = "; ".join(f"head {h}: k={k}, alpha {a:+.3f}, beta {b:+.3f}, {v:.2%}" for h, (k, a, b, v) in enumerate(rows))
    return Measured(text, rows, min(row[3] for row in rows) > 0.95)


@_measures("Q27")
def _linear_attention(s: _Subject) -> Measured:
    _, patterns = head_fits(s.activations.attention)
    loss = s.loss_with(attn_pattern=lambda _: patterns)
    return Measured(s.change(loss), {"full": s.loss, "linear": loss}, loss <= 2 * s.loss)


@_measures("Q28")
def _head_roles(s: _Subject) -> Measured:
    share, k = head_spectra(s.weights.head_values).max(dim=1)
    rows = [(int(at) + 1, value) for at, value in zip(k, share.tolist(), strict=True)]
    text = "; ".join(f"head {h}: frequency {at} {value:.1%}" for h, (at, value) in enumerate(rows))
    return Measured(text, rows, max(value for _, value in rows) > 0.9)


@_measures("Q29")
def _three_phases(s: _Subject) -> Measured:
    found = phases(s.measures)
    ends = [found.memorisation_ends, found.circuit_formation_ends, found.cleanup_ends]
    text = "memorisation to {}, circuit formation to {}, cleanup to {}".format(*map(_epoch, ends))
    known = [end for end in ends if end is not None]
    return Measured(text, ends, len(known) == 3 and known == sorted(known))


@_measures("Q30")
def _lead(s: _Subject) -> Measured:
    frame = s.measures.frame
    below = {name: _settles_below(frame, f"{name}_loss") for name in ("restricted", "test")}
    excluded = frame["excluded_loss"].to_numpy()
    fitted = int(np.argmax(frame["train_loss"].to_numpy() < 0.1))
    least = fitted + int(excluded[fitted:].argmin())
    after = np.arange(len(excluded)) > least
    rises = _first(frame, after & (excluded > 10 * excluded[least]))
    epochs = {"restricted": below["restricted"], "excluded": rises, "test": below["test"]}
    text = (
        f"restricted loss below 1 at {_epoch(epochs['restricted'])}, excluded loss ten times its least "
        f"({excluded[least]:.2g}) at {_epoch(rises)}, test loss below 1 at {_epoch(epochs['test'])}"
    )
    test = epochs["test"]
    earlier = [epochs["restricted"], rises]
    return Measured(text, epochs, test is not None and all(e is not None and test - e >= 1000 for e in earlier))


def _settles_below(frame: pd.DataFrame, column: str, level: float = 1.0) -> int | None:
    above = np.flatnonzero(frame[column].to_numpy() >= level)
    after = int(above[-1]) + 1 if len(above) else 0
    return int(frame.index[after]) if after < len(frame) else None
