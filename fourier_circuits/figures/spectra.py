"""Numbers per frequency: figures 3, 5 (right), 6, 10 and 11 of the paper."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots
from torch import Tensor

from fourier_circuits.figures.style import COLOURS, GREY, listed, log_axis, log_dtick, numbers, titled
from fourier_circuits.fourier.basis import fourier_basis

COS, SIN = COLOURS[0], COLOURS[1]


def spectra(norms: Mapping[str, Tensor], freqs: Sequence[int]) -> go.Figure:
    """Norms of the Fourier components of matrices, cosine and sine beside each other. *Source:* figure 3.

    Args:
        norms: for each matrix its `component_norms` (component,), by the name that its panel gets.
        freqs: the key frequencies, named in the title with their share of the last matrix's power.
    """
    fig = make_subplots(
        rows=len(norms), cols=1, shared_xaxes=True, vertical_spacing=0.09, subplot_titles=[f"{name}" for name in norms]
    )
    for row, (_, values) in enumerate(norms.items(), 1):
        _bars(fig, row, values)
    fig.update_xaxes(row=len(norms), title="frequency k")
    *_, (name, last) = norms.items()
    title = f"Frequencies {listed(freqs)} carry {_share(last, freqs):.1%} of {name.split(':')[0]}"
    return titled(fig, title, 190 * len(norms) + 80, legend=True)


def cluster_spectrum(norms: Tensor, k: int, neurons: int) -> go.Figure:
    """What the neurons of one frequency write to the logits: `component_norms` of their rows of W_L.

    *Source:* figure 5, right.
    """
    fig = make_subplots(rows=1, cols=1)
    _bars(fig, 1, norms)
    fig.update_xaxes(title="frequency k over the answers")
    title = f"The {neurons} neurons of frequency {k} reach the logits through {k}: "
    title += f"{_share(norms, [k]):.1%} of the power of their W_L"
    return titled(fig, title, 300, legend=True)


def frequency_ablation(losses: Mapping[int, float], full: float, restricted: float, freqs: Sequence[int]) -> go.Figure:
    """The loss after removing each frequency from the logits. *Source:* figure 6.

    Args:
        losses: over all pairs, by removed frequency.
        full: with nothing removed.
        restricted: with nothing but the key frequencies left.
        freqs: the key frequencies.
    """
    fig = go.Figure()
    for name, chosen, colour in (("key frequency", True, COLOURS[1]), ("other frequency", False, GREY)):
        ks = [k for k in losses if (k in freqs) == chosen]
        ratios = [losses[k] / full for k in ks]
        fig.add_scatter(
            x=ks, y=numbers([losses[k] for k in ks]), mode="markers", name=name, customdata=numbers(ratios),
            marker={"color": colour, "size": 9 if chosen else 6, "symbol": "diamond" if chosen else "circle"},
            hovertemplate="without frequency %{x}: loss %{y:.3g}, %{customdata:.3g} times<extra></extra>",
        )  # fmt: skip
    for value, name, dash in ((full, "nothing removed", "solid"), (restricted, "only the key frequencies left", "dot")):
        fig.add_scatter(
            x=[0, max(losses) + 1], y=[value] * 2, mode="lines", name=name, line={"dash": dash, "color": COLOURS[0]},
            hovertemplate=f"{name}: loss %{{y:.3g}}<extra></extra>",
        )  # fmt: skip
    fig.update_xaxes(title="removed frequency k", range=[0, max(losses) + 1])
    fig.update_yaxes(title="loss, all pairs (nats)", **log_axis(dtick=log_dtick([*losses.values(), restricted])))
    least = min(losses[k] / full for k in freqs)
    others = max((abs(losses[k] / full - 1) for k in losses if k not in freqs), default=0.0)
    title = f"Without any one of {listed(freqs)} the loss is at least {least:,.0f} times larger; without any other it "
    title += f"changes by at most {others:.1%}"
    return titled(fig, title, 400, legend=True)


def head_spectra(shares: Tensor) -> go.Figure:
    """What each head moves, by frequency: `analysis.circuit.head_spectra`, (head, frequency). *Source:* figure 11."""
    heads, count = shares.shape
    fig = make_subplots(
        rows=heads, cols=1, shared_xaxes=True, vertical_spacing=0.07, subplot_titles=[f"head {h}" for h in range(heads)]
    )
    for head in range(heads):
        fig.add_bar(
            x=list(range(1, count + 1)), y=numbers(shares[head]), marker_color=COLOURS[0], row=head + 1, col=1,
            hovertemplate=f"head {head}, frequency %{{x}}: %{{y:.1%}}<extra></extra>",
        )  # fmt: skip
        fig.update_yaxes(row=head + 1, tickformat=".0%", range=[0, 1], dtick=0.5)
    fig.update_xaxes(row=heads, title="frequency k")
    fig.update_yaxes(row=(heads + 1) // 2, title="share of the power of W<sub>E</sub>W<sub>V</sub>W<sub>O</sub>")
    single = [str(h) for h in range(heads) if shares[h].max() > 0.9]
    who = f"{'heads' if len(single) > 1 else 'head'} {listed(single)}" if single else "none"
    title = f"Heads that move a single frequency (over 90% of what they move): {who}"
    return titled(fig, title, 130 * heads + 70)


def head_components(coefficients: Tensor) -> go.Figure:
    """Attention to a as a function of a alone, in the Fourier basis: (head, component). *Source:* figure 10.

    Args:
        coefficients: of each head's attention to a, averaged over b, on the 1-D basis; the constant first.
    """
    heads, p = coefficients.shape
    labels = fourier_basis(p).labels
    fig = make_subplots(
        rows=heads, cols=1, shared_xaxes=True, vertical_spacing=0.07, subplot_titles=[f"head {h}" for h in range(heads)]
    )
    largest = []
    for head in range(heads):
        values = coefficients[head, 1:]
        largest.append(labels[1 + int(values.abs().argmax())].split()[1])
        fig.add_bar(
            x=list(labels[1:]), y=numbers(values), marker_color=COLOURS[2], row=head + 1, col=1,
            hovertemplate=f"head {head}, %{{x}}: %{{y:.3g}}<extra></extra>",
        )  # fmt: skip
    fig.update_xaxes(row=heads, title="Fourier component of a", nticks=12)
    fig.update_yaxes(row=(heads + 1) // 2, title="coefficient of the attention to a")
    title = f"Heads 0 to {heads - 1} attend by frequency {listed(largest)}"
    return titled(fig, title, 130 * heads + 70)


def _bars(fig: go.Figure, row: int, values: Tensor) -> None:
    basis = fourier_basis(len(values))
    for wave, colour in (("cos", COS), ("sin", SIN)):
        chosen = [i for i, label in enumerate(basis.labels) if label.startswith(wave)]
        fig.add_bar(
            x=[basis.frequency[i] for i in chosen], y=numbers(values[chosen]), name=wave, legendgroup=wave,
            marker_color=colour, showlegend=row == 1, row=row, col=1,
            hovertemplate=f"{wave} %{{x}}: norm %{{y:.3g}}<extra></extra>",
        )  # fmt: skip
    fig.update_yaxes(row=row, title="norm", rangemode="tozero")


def _share(norms: Tensor, freqs: Sequence[int]) -> float:
    basis = fourier_basis(len(norms))
    power = norms.square()
    return (power[[i for k in freqs for i in basis.components(k)]].sum() / power[1:].sum()).item()
