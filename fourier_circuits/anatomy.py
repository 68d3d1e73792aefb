"""What is inside a trained network, in one record: `fourier-circuits analyse`."""

from dataclasses import dataclass
from typing import Any

from fourier_circuits.analysis.circuit import cosine_fit, head_fits, head_spectra, map_residual, read_off
from fourier_circuits.analysis.frequencies import KeyFrequencies, NeuronFrequencies, neuron_frequencies
from fourier_circuits.analysis.losses import accuracy, excluded_loss, full_loss, restricted_loss
from fourier_circuits.arrays import PairMask
from fourier_circuits.identification import RULES, key_frequencies
from fourier_circuits.model.lens import LensModel, task_of
from fourier_circuits.model.read import read_activations, read_weights
from fourier_circuits.task import GridTask


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The parts of a network and how well the paper's algorithm describes them."""

    p: int
    key: KeyFrequencies
    """By the default rule."""
    by_rule: dict[str, KeyFrequencies]
    """By each of the four rules."""
    neurons: NeuronFrequencies
    losses: dict[str, float]
    """Full loss and accuracy over all pairs (and training and test pairs, where known); restricted and excluded."""
    heads: list[dict[str, float]]
    """Per head of the last block: the fit of its attention, and the largest frequency of its OV circuit."""
    circuit: dict[str, Any]
    """Read-off quality, cosine coefficients; empty without key frequencies."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "p": self.p,
            "key_frequencies": list(self.key),
            "by_rule": {
                rule: {"frequencies": list(found), "criterion": found.criterion} for rule, found in self.by_rule.items()
            },
            "evidence": self.key.evidence.loc[list(self.key)].reset_index().to_dict(orient="records"),
            "neurons": {
                "total": len(self.neurons.share),
                "clusters": {str(k): len(members) for k, members in self.neurons.clusters().items()},
                "median_share": self.neurons.share.median().item() if len(self.neurons.share) else None,
            },
            "losses": self.losses,
            "heads": self.heads,
            "circuit": self.circuit,
        }


def anatomy(model: LensModel, *, task: GridTask | None = None, train: PairMask | None = None) -> Anatomy:
    """Take a network apart: key frequencies with evidence, neuron clusters, heads, read-off, losses.

    Args:
        model: a `HookedTransformer`.
        task: what it was trained on; modular addition, if None.
        train: its training pairs, if known.

    Raises:
        ValueError: a task that does not fit the model.
    """
    task = task_of(model, task)
    activations, weights = read_activations(model, task), read_weights(model, task)
    by_rule = {
        rule: key_frequencies(activations if rule in ("neurons", "excluded_loss") else weights, by=rule, task=task)
        for rule in (RULES if activations.neurons.shape[2] else ("embedding", "excluded_loss"))
    }
    key = next(iter(by_rule.values()))
    logits, answers = activations.logits, task.answers
    losses = {"full_loss": full_loss(logits, answers), "accuracy": accuracy(logits, answers)}
    if train is not None:
        for name, where in (("train", train), ("test", ~train)):
            losses |= {f"{name}_loss": full_loss(logits, answers, where)}
            losses |= {f"{name}_accuracy": accuracy(logits, answers, where)}
    circuit: dict[str, Any] = {}
    if key:
        losses["restricted_loss"] = restricted_loss(logits, answers, key)
        losses["excluded_loss"] = excluded_loss(logits, answers, key)
        fit = cosine_fit(logits, answers, key)
        circuit["cosine_coefficients"] = dict(zip(map(str, fit.freqs), fit.coefficients, strict=True))
        circuit["logits_explained_by_cosines"] = fit.fraction_of_variance_explained
        if activations.neurons.shape[2]:
            rows = read_off(activations.neurons, weights.neuron_to_logit, key)
            circuit["read_off_explained"] = {row.label: row.fraction_of_variance_explained for row in rows}
            circuit["map_residual_norm_ratio"] = map_residual(weights.neuron_to_logit, key)
    fits, _ = head_fits(activations.attention)
    share, at = head_spectra(weights.head_values).max(dim=1)
    heads = [
        {
            "frequency": fit.frequency,
            "alpha": fit.alpha,
            "beta": fit.beta,
            "attention_explained": fit.fraction_of_variance_explained,
            "moves_frequency": int(at[head]) + 1,
            "moves_share": share[head].item(),
        }
        for head, fit in enumerate(fits)
    ]
    return Anatomy(task.p, key, by_rule, neuron_frequencies(activations.neurons), losses, heads, circuit)
