"""A run under examination: everything about it that several measurements need, each read once."""

from collections.abc import Callable
from functools import cached_property
from math import log
from typing import Any, NamedTuple

import torch

from fourier_circuits.analysis.circuit import on_directions, read_off_directions, with_neurons
from fourier_circuits.analysis.frequencies import KeyFrequencies, NeuronFrequencies, neuron_frequencies
from fourier_circuits.analysis.losses import full_loss
from fourier_circuits.analysis.progress import ProgressMeasures
from fourier_circuits.arrays import Activations, Weights
from fourier_circuits.dynamics import progress_measures
from fourier_circuits.fourier.basis import fourier_basis
from fourier_circuits.identification import key_frequencies
from fourier_circuits.model.hooks import Edit, edited_logits
from fourier_circuits.model.lens import in_float64
from fourier_circuits.model.read import read_activations, read_weights
from fourier_circuits.training.run import Run


class Measured(NamedTuple):
    """What a measurement gives."""

    text: str
    value: Any
    """A number, or a list or dict of numbers."""
    holds: bool


class Subject:
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
        """Of the checkpoint."""
        return read_activations(self.model, self.task)

    @cached_property
    def weights(self) -> Weights:
        """Of the checkpoint."""
        return read_weights(self.model, self.task)

    @cached_property
    def freqs(self) -> KeyFrequencies:
        """Key frequencies by the default rule."""
        return key_frequencies(self.activations, task=self.task)

    @cached_property
    def neurons(self) -> NeuronFrequencies:
        """The frequency of each neuron."""
        return neuron_frequencies(self.activations.neurons)

    @cached_property
    def loss(self) -> float:
        """The full loss over all pairs."""
        return full_loss(self.activations.logits, self.answers)

    @cached_property
    def measures(self) -> ProgressMeasures:
        """The run's stored progress measures if they are about these frequencies, else taken now."""
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
        """The loss over all pairs."""
        return full_loss(logits, self.answers)

    def loss_with_neurons(self, neurons: torch.Tensor) -> float:
        """The loss had the neurons been these."""
        a = self.activations
        return self.loss_of(with_neurons(a.logits, a.neurons, neurons, self.weights.neuron_to_logit))

    def loss_with(self, **edits: Edit) -> float:
        """The loss with edits made inside the model."""
        return self.loss_of(edited_logits(self.model, self.task, edits).logits)

    def change(self, loss: float) -> str:
        """From the full loss to this one, in per cent or, where it is more than doubled, as a factor."""
        ratio = loss / self.loss
        return f"{self.loss:.3g} -> {loss:.3g} ({f'{ratio - 1:+.0%}' if ratio < 2 else f'{ratio:.3g} times'})"


Measurement = Callable[[Subject], Measured]
