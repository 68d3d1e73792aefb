"""Which figures the report shows, in the paper's order, what each is about, and what is measured for it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import plotly.graph_objects as go
import torch

from fourier_circuits.ablation import ablate_everywhere
from fourier_circuits.analysis.circuit import (
    cosine_fit,
    embedding_planes,
    head_fits,
    head_spectra,
    on_planes,
)
from fourier_circuits.analysis.frequencies import component_norms, neuron_phases
from fourier_circuits.analysis.losses import excluded_loss_each, restricted_loss
from fourier_circuits.analysis.residual import residual_table
from fourier_circuits.claims.subject import Subject
from fourier_circuits.figures import circuit, grids, spectra, training
from fourier_circuits.fourier.grid import transform
from fourier_circuits.model.read import weights_of
from fourier_circuits.reproduction import Reproduction


@dataclass(frozen=True, eq=False)
class Plate:
    """One figure of the report."""

    id: str
    """Of its place in the page, and of its PNG: `figure-3`."""
    label: str
    """`Figure 3`, numbered as in the paper; our own carry a name."""
    claims: tuple[str, ...]
    """The claims that it shows."""
    draw: Callable[[Reproduction], go.Figure]
    text: str
    """What to see, in two or three sentences."""
    alt: str
    """What a reader who cannot see it should know, beside its title."""


def _accuracy_and_loss(r: Reproduction) -> go.Figure:
    return training.accuracy_and_loss(r.run.losses())


def _spectra(r: Reproduction) -> go.Figure:
    w = r.subject.weights
    norms = {
        "W_E: components over numbers": component_norms(w.embed),
        "W_L: components over answers": component_norms(w.neuron_to_logit.T),
    }
    return spectra.spectra(norms, r.freqs)


def _periodic(r: Reproduction) -> go.Figure:
    s = r.subject
    norms = transform(s.activations.logits, s.basis).norm(dim=-1)
    return grids.periodic(s.activations.attention, s.activations.neurons, s.neurons, norms)


def _cluster(r: Reproduction) -> go.Figure:
    k = r.freqs[0]
    members = r.subject.neurons.cluster(k)
    return spectra.cluster_spectrum(component_norms(r.subject.weights.neuron_to_logit[members].T), k, len(members))


def _frequency_ablation(r: Reproduction) -> go.Figure:
    s = r.subject
    logits, answers = s.activations.logits, s.answers
    losses = excluded_loss_each(logits, answers, s.basis.frequencies)
    return spectra.frequency_ablation(losses, s.loss, restricted_loss(logits, answers, r.freqs), r.freqs)


def _interference(r: Reproduction) -> go.Figure:
    return circuit.interference(cosine_fit(r.subject.activations.logits, r.subject.answers, r.freqs))


def _attention(r: Reproduction) -> go.Figure:
    pattern = r.subject.activations.attention
    return grids.attention(pattern, head_fits(pattern)[0])


def _head_components(r: Reproduction) -> go.Figure:
    to_a = r.subject.activations.attention[..., 0].mean(dim=1)
    return spectra.head_components((r.subject.basis.vectors @ to_a).T)


def _circles(r: Reproduction) -> go.Figure:
    freqs = [k for k in r.freqs if 2 * k != r.run.config.model.p]
    epochs = r.run.epochs
    step = -(-len(epochs) // circuit.MAX_FRAMES)
    planes = embedding_planes(r.subject.weights.embed, freqs)
    shown = sorted({*epochs[::step][: circuit.MAX_FRAMES - 1], r.epoch})
    embeds = ((epoch, weights_of(r.run.state(epoch), r.subject.task).embed) for epoch in shown)
    return circuit.circles({epoch: on_planes(embed, planes) for epoch, embed in embeds}, freqs)


def _neuron_map(r: Reproduction) -> go.Figure:
    s = r.subject
    return circuit.neuron_map(s.neurons, neuron_phases(s.activations.neurons, s.neurons), r.freqs)


def _residual(r: Reproduction) -> go.Figure:
    s: Subject = r.subject
    return circuit.residual_stream(residual_table(s.activations, s.weights, s.answers, s.neurons.clusters()), r.freqs)


def _sites(r: Reproduction) -> go.Figure:
    return circuit.site_costs(ablate_everywhere(r.subject.model, r.freqs, task=r.subject.task), r.subject.loss)


PLATES = (
    Plate(
        "figure-2", "Figure 2", ("Q1",), _accuracy_and_loss,
        "The network is trained on 30% of all pairs. It knows those after a few hundred steps, by heart: on the other "
        "pairs it is far worse than guessing. Nothing seems to happen for thousands of steps; then the test loss falls "
        "by many powers of ten. That delay is called grokking.",
        "Two line charts over epochs, accuracy above and loss below, one line for training and one for test pairs.",
    ),
    Plate(
        "figure-circles", "The circles", (), _circles,
        "Every number n is a point in the 128-dimensional residual stream. Along the right two directions the "
        "numbers lie on a circle, n steps of k/p of a turn from the start: the network has learned cos and sin. Pull "
        "the slider to watch the circles form out of noise, long before the test loss moves. Colours follow the angle.",
        "Scatter plots of all numbers in one plane per key frequency; a slider moves through the checkpoints.",
    ),
    Plate(
        "figure-3", "Figure 3", ("Q2", "Q3", "Q7"), _spectra,
        "A random matrix has all Fourier components alike. The embedding W_E has a few, and the map from "
        "neurons to logits, W_L = W_out W_U, fewer still: the key frequencies. Cosine and sine come in pairs of equal "
        "size, which is what a circle needs.",
        "Bar charts of the norm of every cosine and sine component of W_E and of W_L.",
    ),
    Plate(
        "figure-4", "Figure 4", ("Q4", "Q5", "Q6"), _periodic,
        "What the network computes is periodic in a and in b: an attention weight, a neuron. The logits, which are "
        "12,769 numbers for each answer, need a handful of products of waves: 2 by 2 for each key frequency.",
        "Three maps over all pairs: attention of head 0, activation of neuron 0, and the logits' Fourier components.",
    ),
    Plate(
        "figure-5-left", "Figure 5, left", ("Q11", "Q12"), lambda r: circuit.neuron_shares(r.subject.neurons),
        "For each neuron, the share of its variance over all pairs that one frequency explains. Most neurons belong to "
        "one frequency almost entirely.",
        "Histogram of the variance explained by each neuron's best frequency, with a line at 85 per cent.",
    ),
    Plate(
        "figure-neurons", "All neurons", ("Q11", "Q12"), _neuron_map,
        "Each point is a neuron. Point at one (or tap it) to see its activation over all pairs. It fires for sums "
        "of waves of a and b in its own phase; phases are spread all around the circle, so that the MLP as a whole can "
        "write both cos and sin of the sum.",
        "Scatter plot of neurons by the phase of their wave and the variance explained, coloured by frequency.",
    ),
    Plate(
        "figure-5-right", "Figure 5, right", ("Q13",), _cluster,
        "The neurons of one frequency write to the logits through cosine and sine of it, and through little "
        "else: what they compute stays in its own lane to the very end.",
        "Bar chart of the Fourier components of the rows of W_L that belong to the neurons of one frequency.",
    ),
    Plate(
        "figure-6", "Figure 6", ("Q15", "Q18", "Q19", "Q20"), _frequency_ablation,
        "The proof by ablation: take one frequency out of the logits and measure the loss. Each key frequency is "
        "indispensable, every other one is not used. With nothing but the key frequencies left the network is better "
        "than it was.",
        "Scatter plot of the loss after removing each frequency; key frequencies stand far above all others.",
    ),
    Plate(
        "figure-interference", "Why several frequencies", ("Q9", "Q10", "Q25"), _interference,
        "One cosine is nearly as large at a few wrong answers as at the right one. Several cosines of different "
        "frequencies are all large together at one place only, the right answer: constructive interference.",
        "Line chart of one cosine per key frequency and of their sum, which has a single peak at zero.",
    ),
    Plate(
        "figure-7", "Figure 7", ("Q29", "Q30"),
        lambda r: training.progress(r.measures, r.phases),
        "Under the plateau of the test loss the circuit grows. The excluded loss takes the key frequencies away: it "
        "rises as the network comes to rely on them. The restricted loss leaves nothing else: it falls as they come to "
        "suffice. Last, weight decay clears the memorised answers away: the sum of squared weights drops.",
        "Four line charts over epochs: excluded loss, restricted loss, Gini coefficients, sum of squared weights.",
    ),
    Plate(
        "figure-9", "Figure 9", ("Q4", "Q26", "Q27"), _attention,
        "How much each head looks from = to a rather than to b. Where the head follows one wave, the map is a plaid of "
        "a single period; its fit by one frequency is given above it.",
        "Maps over all pairs of the attention of each head to a.",
    ),
    Plate(
        "figure-10", "Figure 10", ("Q26",), _head_components,
        "The same attention as a function of a alone, averaged over b, in the Fourier basis: a head of one frequency "
        "has one pair of bars.",
        "Bar charts of the Fourier components of the attention to a, one for each head.",
    ),
    Plate(
        "figure-11", "Figure 11", ("Q28",), lambda r: spectra.head_spectra(head_spectra(r.subject.weights.head_values)),
        "What a head moves from the operands to =, by frequency. In the paper two heads carry one frequency, and two "
        "carry all of them.",
        "Bar charts of the share of each frequency in what a head moves, one for each head.",
    ),
    Plate(
        "figure-12", "Figure 12", ("Q5", "Q14"),
        lambda r: grids.cluster_neurons(r.subject.activations.neurons, r.subject.neurons),
        "The purest neuron of each frequency. The ReLU makes products of waves out of sums: cos(a) cos(b) and sin(a) "
        "sin(b), which is what cos(a+b) is made of.",
        "Maps over all pairs of the activation of one neuron for each frequency.",
    ),
    Plate(
        "figure-13", "Figure 13", ("Q30",), lambda r: training.restricted_accuracy(r.measures),
        "Accuracy of the logits when everything but the key frequencies is projected away. The generalising circuit is "
        "right on most pairs long before it is heard.",
        "Line chart over epochs of training, test and restricted accuracy.",
    ),
    Plate(
        "figure-14", "Figure 14", ("Q9", "Q30"), lambda r: training.cosine_coefficients(r.measures),
        "How much of each cosine is in the logits. Those of the key frequencies grow through the plateau; they "
        "shrink a little when the memorised part has gone and weight decay has the last word.",
        "Line chart over epochs of the coefficient of every frequency's cosine.",
    ),
    Plate(
        "figure-15", "Figure 15", ("Q30",), lambda r: training.excluded_losses(r.measures),
        "The loss on the training pairs without one key frequency at a time. It shows in which order the network comes "
        "to depend on them.",
        "Line chart over epochs of the excluded loss of each key frequency.",
    ),
    Plate(
        "figure-residual", "The residual stream", ("Q23", "Q24"), _residual,
        "The logits are a sum of what each component writes to the residual stream, and each of those is a sum over "
        "frequencies. A cell is what a component adds to the right answer's logit at a frequency, averaged over all "
        "pairs, compared with the mean logit. All cells add up to the whole: nothing is left out.",
        "Table of components by frequencies with the contribution of each to the logit of the right answer.",
    ),
    Plate(
        "figure-sites", "Every site", ("Q18", "Q20"), _sites,
        "The same removal at every place of the network, by hooks, the forward pass going on from there. Red cells "
        "hurt. From mlp_post on the directions are cos and sin of the sum; before it the sum does not exist yet, and "
        "the whole block of the frequency is removed.",
        "Table of sites by removed frequency with the loss after each ablation.",
    ),
)  # fmt: skip


def figures(reproduction: Reproduction) -> Iterator[tuple[Plate, go.Figure]]:
    """Draw all of them, one at a time."""
    for plate in PLATES:
        yield plate, plate.draw(reproduction)


def neuron_grids(reproduction: Reproduction, levels: int = 16) -> torch.Tensor:
    """Every neuron's activation over all pairs in so many steps of its own range: bytes (neuron, a, b)."""
    neurons = reproduction.subject.activations.neurons.permute(2, 0, 1)
    low, high = neurons.amin(dim=(1, 2), keepdim=True), neurons.amax(dim=(1, 2), keepdim=True)
    scaled = (neurons - low) / (high - low).clamp(min=1e-12)
    return (scaled * (levels - 1)).round().to(torch.uint8)
