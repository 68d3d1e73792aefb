"""One look for all figures: legible at a phone's width and on a projector, safe for colour-blind readers."""

from collections.abc import Iterable, Sequence
from math import log10
from textwrap import wrap
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from torch import Tensor

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#999933")
"""Okabe and Ito's palette and two of Tol's, dark enough on white; one a key frequency, in ascending order."""
GREY = "#8a8f98"
INK = "#1d2733"
DIVERGING = "RdBu_r"
"""For signed maps, always centred at zero."""
SEQUENTIAL = "Viridis"

TITLE_WIDTH = 46
"""Characters of a title's line: what fits into 400 pixels."""

TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": "Inter, Helvetica Neue, Arial, sans-serif", "size": 13, "color": INK},
        "colorway": COLOURS,
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "hoverlabel": {"bgcolor": "white", "bordercolor": GREY, "font": {"color": INK, "size": 13}, "align": "left"},
        "xaxis": {
            "showgrid": False, "zeroline": False, "showline": True, "linecolor": INK, "ticks": "outside",
            "ticklen": 4, "automargin": True, "title": {"standoff": 6},
        },
        "yaxis": {
            "gridcolor": "#e8eaee", "zeroline": False, "showline": True, "linecolor": INK, "ticks": "outside",
            "ticklen": 4, "automargin": True, "title": {"standoff": 6},
        },
        "margin": {"l": 55, "r": 16, "t": 60, "b": 50},
    }
)  # fmt: skip


def titled(fig: go.Figure, title: str, height: int, legend: bool = False) -> go.Figure:
    """Give a figure the template, a title that states the finding, and a height in pixels; the width is free."""
    lines = wrap(title, TITLE_WIDTH)
    fig.update_layout(
        template=TEMPLATE,
        title={
            "text": "<br>".join(lines), "x": 0, "xanchor": "left", "xref": "container", "pad": {"l": 12},
            "y": 1 - 26 / (height + 21 * len(lines)), "yanchor": "top", "yref": "container", "font": {"size": 16},
        },
        height=height + 21 * len(lines),
        showlegend=legend,
        legend={
            "orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0, "xanchor": "left",
            "xref": "paper", "font": {"size": 12}, "itemwidth": 30,
        },
    )  # fmt: skip
    fig.update_layout(margin={"t": 42 + 21 * len(lines)})
    for annotation in fig.layout.annotations:  # pyright: ignore
        annotation.font = {"size": 13, "color": INK}
    return fig


def square_panels(names: Sequence[str], rows: int | None = None, gap: float | None = None) -> go.Figure:
    """Empty square panels, two to a row; `meta.squares` tells a narrow page how many rows and columns to shrink."""
    columns = min(2, len(names))
    rows = rows or -(-len(names) // 2)
    gap = gap or (0.13 if rows == 2 else 0.26 / rows)
    fig = make_subplots(
        rows=rows, cols=columns, subplot_titles=list(names), horizontal_spacing=0.16, vertical_spacing=gap
    )
    return fig.update_layout(meta={"squares": [rows, columns]})


def log_axis(**more: Any) -> dict[str, Any]:
    """A logarithmic axis with powers of ten as its ticks."""
    return {"type": "log", "exponentformat": "power", "dtick": 1, **more}


def log_dtick(values: Iterable[float]) -> int:
    """How many powers of ten apart ticks should be, so that there are at most seven."""
    positive = [v for v in values if v > 0]
    if not positive:
        return 1
    decades = log10(max(positive) / min(positive))
    return max(1, round(decades / 5))


def colour_of(freqs: Sequence[int]) -> dict[int, str]:
    """A colour for each key frequency, in ascending order."""
    return {k: COLOURS[i % len(COLOURS)] for i, k in enumerate(sorted(freqs))}


def listed(values: Iterable[object]) -> str:
    """1, 2 and 3."""
    texts = [str(value) for value in values]
    return " and ".join([", ".join(texts[:-1]), texts[-1]]) if len(texts) > 1 else "".join(texts)


def numbers(values: Any) -> Any:
    """What plotly is given: single precision, which is more than a screen shows and half the size."""
    return np.array(values.numpy() if isinstance(values, Tensor) else values, dtype=np.float32)


def shortened(value: float) -> str:
    """A number for a title: 1.4e-07, 0.031, 12.6."""
    return f"{value:.2g}" if abs(value) < 1 else f"{value:.3g}"
