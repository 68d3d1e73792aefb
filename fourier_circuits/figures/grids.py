"""Maps over all pairs (a, b): figures 4, 9 and 12 of the paper."""

from collections.abc import Sequence

import plotly.graph_objects as go
from torch import Tensor

from fourier_circuits.analysis.circuit import HeadFit
from fourier_circuits.analysis.frequencies import NeuronFrequencies
from fourier_circuits.arrays import NeuronGrid, PatternGrid
from fourier_circuits.figures.style import DIVERGING, SEQUENTIAL, listed, numbers, square_panels, titled
from fourier_circuits.fourier.basis import fourier_basis


def attention(pattern: PatternGrid, fits: Sequence[HeadFit]) -> go.Figure:
    """Attention from = to a of every head, over (a, b). *Source:* figure 9.

    Args:
        pattern: the attention pattern (a, b, head, position).
        fits: `analysis.circuit.head_fits` of it.
    """
    heads = pattern.shape[2]
    names = [f"head {h}: k={fit.frequency}, {fit.fraction_of_variance_explained:.0%}" for h, fit in enumerate(fits)]
    fig = square_panels(names)
    for head in range(heads):
        _map(fig, head, pattern[:, :, head, 0], "attention to a", SEQUENTIAL, (0.0, 1.0), bar=head == 0)
    good = [fit for fit in fits if fit.fraction_of_variance_explained > 0.95]
    title = f"{len(good)} of {heads} heads look at a in one wave of a and b: frequency "
    title += listed(sorted({fit.frequency for fit in good or fits}))
    return titled(fig, title, 330 * ((heads + 1) // 2) + 40)


def periodic(pattern: PatternGrid, neurons: NeuronGrid, found: NeuronFrequencies, logit_norms: Tensor) -> go.Figure:
    """A head, a neuron, a logit and the logits in the 2-D Fourier basis. *Source:* figure 4.

    Args:
        pattern: the attention pattern; head 0's attention to a is shown.
        neurons: their activations; neuron 0 is shown.
        found: the frequency of each neuron.
        logit_norms: norm over answers of the logits' 2-D coefficients, (component of a, component of b).
    """
    basis = fourier_basis(logit_norms.shape[0])
    fig = square_panels(["head 0: attention to a", "neuron 0: activation", "logits in the Fourier basis"], rows=2)
    _map(fig, 0, pattern[:, :, 0, 0], "attention to a", SEQUENTIAL)
    _map(fig, 1, neurons[..., 0], "activation", SEQUENTIAL)
    shown = logit_norms.clone()
    shown[0, 0] = 0
    labels = list(basis.labels)
    fig.add_heatmap(
        z=numbers(shown), x=labels, y=labels, colorscale="Blues", showscale=False, row=2, col=1,
        hovertemplate="%{y} of a times %{x} of b: norm %{z:.3g}<extra></extra>",
    )  # fmt: skip
    fig.update_xaxes(row=2, col=1, title="component of b", nticks=8, constrain="domain")
    fig.update_yaxes(row=2, col=1, title="component of a", nticks=8, scaleanchor="x3", autorange="reversed")
    large = (shown > 0.3 * shown.max()).nonzero().tolist()
    fig.add_scatter(
        x=[labels[j] for _, j in large], y=[labels[i] for i, _ in large], mode="markers", hoverinfo="skip",
        marker={"symbol": "circle-open", "size": 9, "color": "#D55E00"}, showlegend=False, row=2, col=1,
    )  # fmt: skip
    title = f"Head and neuron are periodic (neuron 0: frequency {int(found.frequency[0])}, {found.share[0]:.0%} of its "
    title += f"variance); the logits have {len(large)} components of {shown.numel():,}"
    return titled(fig, title, 720)


def cluster_neurons(neurons: NeuronGrid, found: NeuronFrequencies) -> go.Figure:
    """The purest neuron of each frequency that has any, over (a, b), at most six. *Source:* figure 12."""
    clusters = found.clusters()
    best = {k: int(members[found.share[members].argmax()]) for k, members in list(clusters.items())[:6]}
    fig = square_panels([f"neuron {n}: k={k}, {found.share[n]:.1%}" for k, n in best.items()])
    for place, n in enumerate(best.values()):
        _map(fig, place, neurons[..., n], "activation", SEQUENTIAL)
    title = f"Neurons of frequency {listed(best)}: each a pattern that repeats k times along a and along b"
    return titled(fig, title, 330 * ((len(best) + 1) // 2) + 40)


def grid_map(grid: Tensor, what: str, title: str, signed: bool = False) -> go.Figure:
    """One grid (a, b) as a map; a signed one is centred at zero."""
    fig = square_panels([""])
    largest = grid.abs().max().item()
    limits = (-largest, largest) if signed else None
    _map(fig, 0, grid, what, DIVERGING if signed else SEQUENTIAL, limits, bar=True)
    return titled(fig, title, 400)


def _map(
    fig: go.Figure,
    place: int,
    grid: Tensor,
    what: str,
    colours: str,
    limits: tuple[float, float] | None = None,
    bar: bool = False,
) -> None:
    """One square panel, a downwards (named at the left of a row only: on a phone there is no room), b to the right."""
    row, col = place // 2 + 1, place % 2 + 1
    low, high = limits or (grid.min().item(), grid.max().item())
    fig.add_heatmap(
        z=numbers(grid), colorscale=colours, zmin=low, zmax=high, showscale=bar, row=row, col=col,
        colorbar={"title": {"text": what, "side": "right"}, "thickness": 10, "len": 0.5, "xpad": 4},
        hovertemplate=f"a=%{{y}}, b=%{{x}}: {what} %{{z:.3g}}<extra></extra>",
    )  # fmt: skip
    axis = fig.data[-1].xaxis  # pyright: ignore
    fig.update_xaxes(row=row, col=col, title="b", constrain="domain")
    fig.update_yaxes(
        row=row,
        col=col,
        title="a" if col == 1 else None,
        autorange="reversed",
        scaleanchor=axis,
        constrain="domain",
        showgrid=False,
    )
