"""`key_frequencies(model)`: which frequencies does this network use, and by what evidence?"""

from typing import Any

from fourier_circuits.analysis.frequencies import (
    KeyFrequencies,
    Rule,
    key_by_excluded_loss,
    key_by_neurons,
    key_by_spectrum,
)
from fourier_circuits.arrays import Activations, Weights
from fourier_circuits.model.read import read_activations, read_weights
from fourier_circuits.task import GridTask, ModularAddition

RULES = ("neurons", "neuron_logit_map", "embedding", "excluded_loss")


def key_frequencies(
    source: Any, *, by: Rule = "neurons", task: GridTask | None = None, **thresholds: float
) -> KeyFrequencies:
    """The key frequencies of a model, by one of four rules; empty for a network that only memorised.

    Args:
        source: a model, or the `Activations` or `Weights` already read from it.
        by: "neurons" (default), "neuron_logit_map", "embedding" or "excluded_loss".
        task: what the model was trained on; modular addition, if None.
        thresholds: of the rule: `share`, `at_least` (neurons); `relative_norm`, `over_flat`, `jointly` (the two
            spectra); `times` (excluded loss).

    Returns:
        A tuple of ints with `.rule`, `.criterion` and `.evidence` (a table with one row per frequency).

    Raises:
        ValueError: an unknown rule, or weights given to a rule about activations or the other way round.

    *Source:* sections 4.1, 4.3, C.2 and footnote 3 of the paper, which uses three rules and prints no threshold.
    """
    if by not in RULES:
        raise ValueError(f"by must be one of {', '.join(RULES)}, got {by!r}")
    kind, read = (Activations, read_activations) if by in ("neurons", "excluded_loss") else (Weights, read_weights)
    if isinstance(source, Activations | Weights) and not isinstance(source, kind):
        raise ValueError(f"the rule {by!r} needs {kind.__name__} or a model, got {type(source).__name__}")
    arrays = source if isinstance(source, kind) else read(source, task)
    if isinstance(arrays, Weights):
        matrix = arrays.embed if by == "embedding" else arrays.neuron_to_logit.T
        return key_by_spectrum(matrix, by, **thresholds)
    if by == "neurons":
        return key_by_neurons(arrays.neurons, **thresholds)  # pyright: ignore[reportArgumentType]
    answers = (task or ModularAddition(arrays.logits.shape[0])).answers
    return key_by_excluded_loss(arrays.logits, answers, **thresholds)
