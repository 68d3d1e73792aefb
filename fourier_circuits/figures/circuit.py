"""The circuit itself: circles of numbers, interfering cosines, neurons, components and sites by frequency."""

from collections.abc import Mapping, Sequence
from math import cos, log10, pi

import pandas as pd
import plotly.graph_objects as go
from torch import Tensor

from fourier_circuits.analysis.circuit import CosineFit
from fourier_circuits.analysis.frequencies import NEURON_SHARE, NeuronFrequencies
from fourier_circuits.analysis.residual import ResidualTable
from fourier_circuits.figures.style import (
    COLOURS,
    DIVERGING,
    GREY,
    INK,
    colour_of,
    listed,
    numbers,
    square_panels,
    titled,
)

MAX_FRAMES = 50


def circles(planes: Mapping[int, Tensor], freqs: Sequence[int]) -> go.Figure:
    """The numbers 0 to p-1 in the plane of each key frequency; with several epochs, a slider.

    Args:
        planes: by epoch, ascending, the coordinates (frequency, number, 2) of `analysis.circuit.on_planes`.
        freqs: the key frequencies, in the same order.

    Raises:
        ValueError: more than 50 epochs.
    """
    if len(planes) > MAX_FRAMES:
        raise ValueError(f"a slider takes at most {MAX_FRAMES} epochs, got {len(planes)}: leave some out")
    epochs, last = list(planes), list(planes.values())[-1]
    p = last.shape[1]
    rows = (len(freqs) + 1) // 2
    fig = square_panels([f"frequency {k}" for k in freqs], gap=0.3 / rows)

    def traces(at: Tensor) -> list[go.Scatter]:
        return [
            go.Scatter(
                x=numbers(at[i, :, 0]), y=numbers(at[i, :, 1]), mode="markers", customdata=list(range(p)),
                marker={
                    "color": [k * n % p for n in range(p)], "colorscale": "HSV", "size": 7, "cmin": 0, "cmax": p,
                    "line": {"width": 0.5, "color": "white"},
                },
                hovertemplate=f"number %{{customdata}}<extra>frequency {k}</extra>",
            )
            for i, k in enumerate(freqs)
        ]  # fmt: skip

    for i, trace in enumerate(traces(last)):
        fig.add_trace(trace, row=i // 2 + 1, col=i % 2 + 1)
    reach = 1.15 * max(at.abs().max().item() for at in planes.values())
    fig.update_xaxes(range=[-reach, reach], constrain="domain", title="along cos", zeroline=True, zerolinecolor="#ddd")
    fig.update_yaxes(range=[-reach, reach], constrain="domain", zeroline=True, zerolinecolor="#ddd")
    fig.update_yaxes(title="along sin", col=1)
    for i in range(len(freqs)):
        fig.update_yaxes(scaleanchor=f"x{i + 1 if i else ''}", row=i // 2 + 1, col=i % 2 + 1)
    title = f"W_E puts the {p} numbers on a circle for each of the frequencies {listed(freqs)}"
    height = 320 * rows + 60
    if len(epochs) > 1:
        fig.frames = [
            go.Frame(name=str(epoch), data=traces(at), traces=list(range(len(freqs)))) for epoch, at in planes.items()
        ]
        at_once = {"mode": "immediate", "frame": {"duration": 0, "redraw": False}, "transition": {"duration": 250}}
        steps = [{"method": "animate", "label": f"{e:,}", "args": [[str(e)], at_once]} for e in epochs]
        current = {"prefix": "epoch ", "xanchor": "left", "offset": 12}
        fig.update_layout(
            sliders=[{"steps": steps, "active": len(epochs) - 1, "currentvalue": current, "pad": {"t": 45}}]
        )
        height += 90
    fig = titled(fig, title, height)
    if len(epochs) > 1:
        fig.update_layout(margin={"b": 110})
    return fig


def interference(fit: CosineFit) -> go.Figure:
    """What each key frequency adds to the logit of an answer so far from the right one, and their sum."""
    p = fit.logits.shape[0]
    off = [d - p // 2 for d in range(p)]
    colours = colour_of(fit.freqs)
    fig = go.Figure()
    total = [0.0] * p
    for k, alpha in zip(fit.freqs, fit.coefficients, strict=True):
        wave = [alpha * cos(2 * pi * k * d / p) for d in off]
        total = [sum(pair) for pair in zip(total, wave, strict=True)]
        fig.add_scatter(
            x=off, y=numbers(wave), mode="lines", line={"color": colours[k], "width": 1.5}, name=f"frequency {k}",
            opacity=0.75, hovertemplate=f"frequency {k}, %{{x}} away: %{{y:.3g}}<extra></extra>",
        )  # fmt: skip
    fig.add_scatter(
        x=off, y=numbers(total), mode="lines", line={"color": INK, "width": 3}, name="their sum",
        hovertemplate="sum, %{x} away: %{y:.3g}<extra></extra>",
    )  # fmt: skip
    fig.update_xaxes(title="answer minus right answer, mod p")
    fig.update_yaxes(title="added to the logit")
    right = total[off.index(0)]
    second = max(value for d, value in zip(off, total, strict=True) if d)
    title = f"{len(fit.freqs)} cosines agree at the right answer alone: {right:.3g} there, "
    title += f"at most {second:.3g} elsewhere"
    return titled(fig, title, 400, legend=True)


def neuron_shares(found: NeuronFrequencies) -> go.Figure:
    """How much of each neuron's variance its best frequency explains. *Source:* figure 5, left."""
    pure, total = int((found.share > NEURON_SHARE).sum()), len(found.share)
    fig = go.Figure()
    fig.add_histogram(
        x=numbers(found.share), xbins={"start": 0, "end": 1.0001, "size": 0.05}, marker_color=COLOURS[0],
        hovertemplate="share %{x}: %{y} neurons<extra></extra>",
    )  # fmt: skip
    fig.add_vline(x=NEURON_SHARE, line={"color": COLOURS[1], "dash": "dash"})
    fig.update_xaxes(title="variance explained by the best frequency", tickformat=".0%", range=[0, 1.005])
    fig.update_yaxes(title="neurons")
    title = f"{pure} of {total} neurons ({pure / total:.0%}) turn with one frequency: over {NEURON_SHARE:.0%} explained"
    return titled(fig, title, 330)


def neuron_map(found: NeuronFrequencies, phase: Tensor, freqs: Sequence[int]) -> go.Figure:
    """Every neuron by the phase and the purity of its wave, coloured by its frequency.

    Args:
        found: the frequency of each neuron.
        phase: the angle of its wave in radians, `analysis.frequencies.neuron_phases`.
        freqs: the key frequencies; neurons of others are grey.
    """
    fig = go.Figure()
    colours = colour_of(freqs)
    for k in [*sorted(colours), None]:
        member = [n for n, f in enumerate(found.frequency.tolist()) if (f == k if k else f not in colours)]
        if not member:
            continue
        degrees = [phase[n].item() * 180 / pi for n in member]
        fig.add_scatter(
            x=numbers(degrees), y=numbers(found.share[member]), mode="markers", name=f"frequency {k}" if k else "other",
            customdata=[[n, int(found.frequency[n])] for n in member],
            marker={"color": colours[k] if k else GREY, "size": 7, "opacity": 0.75},
            hovertemplate="neuron %{customdata[0]}: frequency %{customdata[1]}, phase %{x:.0f}°, "
            "%{y:.1%} explained<extra></extra>",
        )  # fmt: skip
    fig.update_xaxes(title="phase of the wave (degrees)", range=[-185, 185], dtick=90)
    fig.update_yaxes(title="variance explained", tickformat=".0%")
    sizes = [f"{len(found.cluster(k))} of frequency {k}" for k in sorted(colours)]
    return titled(fig, f"Neurons come in all phases: {listed(sizes)} are over 85% pure", 430, legend=True)


def residual_stream(table: ResidualTable, freqs: Sequence[int]) -> go.Figure:
    """What each component adds to the right answer's logit at each frequency; the cells add up to the whole."""
    cells = table.right_logit
    others = [column for column in cells.columns if column not in ("const", "mixed", *freqs)]
    shown = cells[["const", *freqs]].assign(others=cells[others].sum(axis=1))
    shown["mixed"] = cells["mixed"]
    largest = shown.abs().to_numpy().max()
    labels = [f"k={c}" if c in freqs else str(c) for c in shown.columns]
    fig = go.Figure(
        go.Heatmap(
            z=numbers(shown.to_numpy()), x=labels, y=list(shown.index), colorscale=DIVERGING, zmin=-largest,
            zmax=largest, texttemplate="%{z:.2f}", showscale=False, xgap=1, ygap=1,
            hovertemplate="%{y} at %{x}: %{z:.4g} to the right logit<extra></extra>",
        )
    )  # fmt: skip
    fig.update_yaxes(autorange="reversed", showgrid=False)
    fig.update_xaxes(title="frequency", side="bottom", tickangle=0)
    total, key = cells.to_numpy().sum(), shown[list(freqs)].to_numpy().sum()
    title = f"The right answer's logit stands {total:.3g} above the mean; the key frequencies give {key:.3g} of it"
    return titled(fig, title, 34 * len(shown) + 90)


def site_costs(losses: pd.DataFrame, full: float) -> go.Figure:
    """The loss after removing frequencies at each site: rows sites, columns what was removed (`ablate_everywhere`)."""
    largest = max(losses.to_numpy().max(), 10 * full)
    text = [[f"{value:.2g}" for value in row] for row in losses.to_numpy()]
    log = losses.apply(lambda column: column.map(lambda v: log10(max(v / full, 1e-12))))
    reach = log10(largest / full)
    fig = go.Figure(
        go.Heatmap(
            z=numbers(log.to_numpy()), x=[str(c) for c in losses.columns], y=list(losses.index), text=text,
            texttemplate="%{text}", colorscale=DIVERGING, zmin=-reach, zmax=reach, xgap=1, ygap=1, showscale=False,
            hovertemplate="%{y}, %{x}: loss %{text} (10^%{z:.2f} times)<extra></extra>",
        )
    )  # fmt: skip
    fig.update_yaxes(autorange="reversed", showgrid=False)
    fig.update_xaxes(title=f"removed (cells: loss; {full:.2g} as it is)", tickangle=0)
    worse = sum(loss > 100 * full for loss in losses["all key"])
    title = f"At {worse} of {len(losses)} places, taking the key frequencies away makes the loss over 100 times larger"
    return titled(fig, title, 36 * len(losses) + 90)
