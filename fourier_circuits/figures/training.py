"""Curves over training: figures 2, 7, 13, 14 and 15 of the paper."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from fourier_circuits.analysis.progress import Phases, ProgressMeasures
from fourier_circuits.figures.style import COLOURS, GREY, colour_of, listed, log_axis, log_dtick, numbers, titled

TRAIN, TEST, RESTRICTED, EXCLUDED = COLOURS[0], COLOURS[1], COLOURS[2], COLOURS[3]
PHASE_FILL = (
    ("memorisation", "rgba(230,159,0,0.16)"),
    ("circuit formation", "rgba(86,180,233,0.16)"),
    ("cleanup", "rgba(0,158,115,0.14)"),
)
EPOCH = "epoch (one full-batch step)"


def accuracy_and_loss(losses: pd.DataFrame) -> go.Figure:
    """Accuracy and loss over epochs, of a table as `Run.losses` returns it. *Source:* figure 2."""
    logged = losses[losses["train_accuracy"].notna()]
    fitted = _first(logged["train_accuracy"] >= 1)
    general = _first(logged["test_accuracy"] >= 0.99)
    if fitted is None:
        title = "The network has not fitted its training pairs"
    elif general is None:
        title = f"It knows its training pairs by epoch {fitted:,}, and the test pairs never"
    else:
        title = f"It knows its training pairs by epoch {fitted:,}, the test pairs only by {general:,}"
    fig = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    shown = losses.iloc[:: max(1, len(losses) // 2000)]
    for name, colour in (("train", TRAIN), ("test", TEST)):
        _line(fig, 1, logged[f"{name}_accuracy"], f"{name} pairs", colour, ".1%")
        values = (shown if name == "train" else logged)[f"{name}_loss"]
        _line(fig, 2, values, f"{name} pairs", colour, ".3g", legend=False)
    fig.update_yaxes(row=1, title="accuracy", tickformat=".0%", range=[-0.03, 1.05])
    fig.update_yaxes(row=2, title="loss (nats)", **_log(losses["train_loss"]))
    fig.update_xaxes(row=2, title=EPOCH)
    return titled(fig, title, 520, legend=True)


def progress(measures: ProgressMeasures, found: Phases) -> go.Figure:
    """Excluded and restricted loss, Gini coefficients and squared weights, the phases shaded. *Source:* figure 7."""
    frame = measures.frame
    panels = ("excluded loss, training pairs", "restricted loss, all pairs", "sparsity in Fourier space", "weights")
    fig = make_subplots(rows=4, cols=1, shared_xaxes=True, vertical_spacing=0.055, subplot_titles=panels)
    for row in (1, 2):
        _line(fig, row, frame["train_loss"], "train loss", TRAIN, ".3g", legend=row == 1)
        _line(fig, row, frame["test_loss"], "test loss", TEST, ".3g", legend=row == 1)
    _line(fig, 1, frame["excluded_loss"], "excluded loss", EXCLUDED, ".3g", width=3)
    _line(fig, 2, frame["restricted_loss"], "restricted loss", RESTRICTED, ".3g", width=3)
    _line(fig, 3, frame["gini_W_E"], "Gini of W_E", COLOURS[4], ".3f")
    _line(fig, 3, frame["gini_W_L"], "Gini of W_L", COLOURS[6], ".3f")
    _line(fig, 4, frame["squares_total"], "sum of squared weights", COLOURS[5], ",.0f")
    fig.update_yaxes(row=1, title="loss (nats)", **_log(frame["train_loss"]))
    fig.update_yaxes(row=2, title="loss (nats)", **_log(frame["restricted_loss"]))
    fig.update_yaxes(row=3, title="Gini", range=[0, 1])
    fig.update_yaxes(row=4, title="sum of squares", rangemode="tozero")
    fig.update_xaxes(row=4, title=EPOCH)
    _shade(fig, found)
    restricted, test = (_first(frame[name] < 1) for name in ("restricted_loss", "test_loss"))
    if restricted is None or test is None:
        title = "No hidden progress: the restricted loss or the test loss never falls below 1"
    else:
        title = f"The circuit is at work {test - restricted:,} epochs before the test loss shows it"
    return titled(fig, title, 900, legend=True)


def restricted_accuracy(measures: ProgressMeasures) -> go.Figure:
    """Accuracy with nothing but the key frequencies, over training. *Source:* figure 13."""
    frame = measures.frame
    fig = go.Figure()
    _line(fig, None, frame["train_accuracy"], "train pairs", TRAIN, ".1%")
    _line(fig, None, frame["test_accuracy"], "test pairs", TEST, ".1%")
    _line(fig, None, frame["restricted_accuracy"], "key frequencies only, all pairs", RESTRICTED, ".1%", width=3)
    fig.update_yaxes(title="accuracy", tickformat=".0%", range=[-0.03, 1.05])
    fig.update_xaxes(title=EPOCH)
    restricted, test = (_first(frame[f"{name}_accuracy"] >= 0.5) for name in ("restricted", "test"))
    if restricted is None or test is None:
        title = "The key frequencies alone never reach an accuracy of 50%"
    else:
        title = f"The key frequencies alone are right on half of all pairs at epoch {restricted:,}, the network at "
        title += f"{test:,} on the test pairs"
    return titled(fig, title, 360, legend=True)


def cosine_coefficients(measures: ProgressMeasures) -> go.Figure:
    """The coefficient of every cos w_k(a+b-c) in the logits, over training. *Source:* figure 14."""
    frame, colours = measures.frame, colour_of(measures.freqs)
    ks = [int(name.removeprefix("cosine_")) for name in frame.columns if name.startswith("cosine_")]
    fig = go.Figure()
    for k in sorted(ks, key=lambda k: k in colours):
        values, key = frame[f"cosine_{k}"], k in colours
        line = {"color": colours.get(k, "rgba(138,143,152,0.45)"), "width": 2.5 if key else 1}
        fig.add_scatter(
            x=frame.index.to_numpy(), y=numbers(values.to_numpy()), mode="lines", line=line, name=f"frequency {k}",
            showlegend=key, hoverinfo=None if key else "skip",
            hovertemplate=f"frequency {k}, epoch %{{x:,}}: %{{y:.3g}}<extra></extra>" if key else None,
        )  # fmt: skip
    fig.update_yaxes(title="coefficient of cos w<sub>k</sub>(a+b−c), logits")
    fig.update_xaxes(title=EPOCH)
    others = frame[[f"cosine_{k}" for k in ks if k not in colours]].iloc[-1].abs().max()
    weakest = frame[[f"cosine_{k}" for k in colours]].iloc[-1].abs().min()
    title = f"The cosines of {listed(sorted(colours))} grow to {weakest:.3g} or more; no other ends above {others:.2g}"
    return titled(fig, title, 400, legend=True)


def excluded_losses(measures: ProgressMeasures) -> go.Figure:
    """The excluded loss of each key frequency by itself and of all, over training. *Source:* figure 15."""
    frame, colours = measures.frame, colour_of(measures.freqs)
    fig = go.Figure()
    _line(fig, None, frame["train_loss"], "nothing removed", GREY, ".3g")
    for k, colour in colours.items():
        _line(fig, None, frame[f"excluded_{k}_loss"], f"without {k}", colour, ".3g")
    _line(fig, None, frame["excluded_loss"], "without all of them", "#1d2733", ".3g", width=3)
    fig.update_yaxes(title="loss on training pairs (nats)", **_log(frame["train_loss"]))
    fig.update_xaxes(title=EPOCH)
    last = frame.iloc[-1]
    most = max(colours, key=lambda k: last[f"excluded_{k}_loss"])
    title = f"In the end frequency {most} is missed most: without it the loss on the training pairs is "
    title += f"{last[f'excluded_{most}_loss'] / last['train_loss']:,.0f} times as large"
    return titled(fig, title, 420, legend=True)


def _line(
    fig: go.Figure, row: int | None, values: Any, name: str, colour: str, form: str, *, legend: bool = True,
    width: float = 2,
) -> None:  # fmt: skip
    values = values.dropna()
    fig.add_scatter(
        x=values.index.to_numpy(),
        y=numbers(values.to_numpy()),
        mode="lines",
        line={"color": colour, "width": width},
        name=name,
        legendgroup=name,
        showlegend=legend,
        hovertemplate=f"{name}, epoch %{{x:,}}: %{{y:{form}}}<extra></extra>",
        row=row,
        col=None if row is None else 1,
    )


def _shade(fig: go.Figure, found: Phases) -> None:
    """Shade the phases in every panel, and name them in the legend."""
    ends = (found.memorisation_ends, found.circuit_formation_ends, found.cleanup_ends)
    start = 0
    for (name, fill), end in zip(PHASE_FILL, ends, strict=True):
        if end is None:
            break
        fig.add_vrect(x0=start, x1=end, fillcolor=fill, line_width=0, layer="below", row="all", col=1)  # pyright: ignore
        fig.add_scatter(
            x=[None], y=[None], mode="markers", name=f"{name}, to epoch {end:,}", showlegend=True,
            marker={"symbol": "square", "size": 14, "color": fill.replace("0.16", "0.5").replace("0.14", "0.5")},
        )  # fmt: skip
        start = end


def _first(condition: Any) -> int | None:
    """The first epoch from which on a condition holds to the end; None if it does not hold at the end."""
    failing = condition.index[~condition.to_numpy()]
    later = condition.index if failing.empty else condition.index[condition.index > failing[-1]]
    return None if later.empty else int(later[0])


def _log(values: Any) -> dict[str, Any]:
    return log_axis(dtick=log_dtick([*values.dropna(), 30.0]))
