"""Every figure on planted input: what its traces hold, its axes, its names, and that its title is computed."""

import math

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import torch

from fourier_circuits.ablation import ablate_everywhere
from fourier_circuits.analysis.circuit import cosine_fit, embedding_planes, head_fits, head_spectra, on_planes
from fourier_circuits.analysis.frequencies import component_norms, neuron_frequencies, neuron_phases
from fourier_circuits.analysis.progress import Phases, ProgressMeasures
from fourier_circuits.analysis.residual import residual_table
from fourier_circuits.figures import circuit, grids, spectra, style, training
from fourier_circuits.fourier.basis import fourier_basis
from fourier_circuits.fourier.grid import transform
from fourier_circuits.model.read import read_activations, read_weights
from fourier_circuits.task import ModularAddition
from tests.planted import circuit_model, planted_logits, planted_neurons
from tests.tolerance import assert_close

P, KEY = 13, (2, 5, 6)


@pytest.fixture(scope="module")
def parts():
    model = circuit_model(P, KEY)
    return model, read_activations(model), read_weights(model), ModularAddition(P)


@pytest.fixture(scope="module")
def measures() -> ProgressMeasures:
    """A made-up run: the test loss falls at 300, the restricted loss at 200."""
    epochs = np.arange(0, 501, 100)
    frame = pd.DataFrame(
        {
            "train_loss": [2.5, 1e-3, 1e-4, 1e-5, 1e-6, 1e-6],
            "test_loss": [2.5, 6, 7, 0.5, 1e-5, 1e-6],
            "train_accuracy": [0.1, 1, 1, 1, 1, 1],
            "test_accuracy": [0.1, 0.1, 0.2, 0.9, 1, 1],
            "restricted_loss": [2.5, 2, 0.5, 1e-3, 1e-6, 1e-7],
            "restricted_accuracy": [0.1, 0.4, 0.8, 1, 1, 1],
            "excluded_loss": [2.5, 0.1, 1, 5, 9, 8],
            "excluded_2_loss": [2.5, 1e-3, 1e-3, 1e-2, 0.5, 0.1],
            "excluded_5_loss": [2.5, 1e-3, 1e-3, 1e-2, 0.1, 0.05],
            "gini_W_E": [0.1, 0.2, 0.4, 0.6, 0.8, 0.8],
            "gini_W_L": [0.1, 0.2, 0.4, 0.7, 0.9, 0.9],
            "squares_total": [900, 2000, 1800, 1500, 1000, 990],
            **{f"cosine_{k}": [0, 0.1, 1, 4, 8, 8 + k] if k in (2, 5) else [0, 0, 0, 0, 0, 0.01] for k in range(1, 7)},
        },
        index=pd.Index(epochs, name="epoch"),
    )
    return ProgressMeasures(frame, (2, 5))


def values(trace) -> np.ndarray:
    return np.asarray(trace.z if trace.type == "heatmap" else trace.y, dtype=float)


def looks_finished(fig: go.Figure) -> None:
    """A title that fits a phone, named axes, and traces with something in them."""
    lines = fig.layout.title.text.split("<br>")
    assert lines[0] and max(map(len, lines)) <= style.TITLE_WIDTH
    assert fig.layout.template.layout.colorway == style.COLOURS
    assert any(axis.title.text for axis in fig.select_xaxes())
    drawn = [trace for trace in fig.data if trace.x is None or list(trace.x) != [None]]
    assert drawn and all(trace.hovertemplate or trace.hoverinfo == "skip" for trace in drawn)


def test_the_check_can_fail():
    with pytest.raises(AssertionError):
        looks_finished(style.titled(go.Figure(), "Nothing", 300))
    bare = go.Figure(go.Scatter(x=[1], y=[1], hovertemplate="x"))
    with pytest.raises(AssertionError):
        looks_finished(style.titled(bare, "No axis has a name", 300))


def test_accuracy_and_loss():
    frame = pd.DataFrame(
        {
            "train_loss": [2.0, 1.0, 0.1, 0.01, 1e-3],
            "test_loss": [2.0, math.nan, 3.0, math.nan, 1e-3],
            "train_accuracy": [0.1, math.nan, 1.0, math.nan, 1.0],
            "test_accuracy": [0.1, math.nan, 0.2, math.nan, 1.0],
        },
        index=pd.RangeIndex(5, name="epoch"),
    )
    fig = training.accuracy_and_loss(frame)
    looks_finished(fig)
    by_axis = {(trace.name, trace.yaxis): trace for trace in fig.data}
    assert list(by_axis["train pairs", "y2"].x) == [0, 1, 2, 3, 4]
    assert list(by_axis["test pairs", "y2"].x) == [0, 2, 4]
    assert "pairs by epoch 2, the test pairs only by 4" in fig.layout.title.text.replace("<br>", " ")
    assert fig.layout.yaxis2.type == "log"
    never = training.accuracy_and_loss(frame.assign(test_accuracy=frame["train_accuracy"] * 0))
    assert "never" in never.layout.title.text


def test_progress_and_its_phases(measures):
    fig = training.progress(measures, Phases(100, 300, 400))
    looks_finished(fig)
    assert "100 epochs before" in fig.layout.title.text.replace("<br>", " ")
    shaded = {(shape.x0, shape.x1) for shape in fig.layout.shapes}
    assert shaded == {(0, 100), (100, 300), (300, 400)} and len(fig.layout.shapes) == 12
    restricted = next(trace for trace in fig.data if trace.name == "restricted loss")
    assert_close(values(restricted), measures.frame["restricted_loss"].to_numpy(), dtype=torch.float32)
    assert not training.progress(measures, Phases(None, None, None)).layout.shapes
    stuck = ProgressMeasures(measures.frame.assign(test_loss=5.0), measures.freqs)
    assert "No hidden progress" in training.progress(stuck, Phases(None, None, None)).layout.title.text


def test_curves_of_each_frequency(measures):
    fig = training.cosine_coefficients(measures)
    looks_finished(fig)
    assert [trace.name for trace in fig.data if trace.showlegend] == ["frequency 2", "frequency 5"]
    assert len(fig.data) == 6 and "grow to 10 or more" in fig.layout.title.text.replace("<br>", " ")
    excluded = training.excluded_losses(measures)
    looks_finished(excluded)
    assert [trace.name for trace in excluded.data] == [
        "nothing removed", "without 2", "without 5", "without all of them",
    ]  # fmt: skip
    assert "100,000 times" in excluded.layout.title.text.replace("<br>", " ")
    accuracy = training.restricted_accuracy(measures)
    looks_finished(accuracy)
    assert "at epoch 200, the network at 300" in accuracy.layout.title.text.replace("<br>", " ")


def test_spectra(parts):
    _, _, weights, _ = parts
    fig = spectra.spectra({"W_L: over answers": component_norms(weights.neuron_to_logit.T)}, KEY)
    looks_finished(fig)
    assert "100.0% of W_L" in fig.layout.title.text.replace("<br>", " ")
    cos, sin = fig.data
    assert list(cos.x) == list(sin.x) == [1, 2, 3, 4, 5, 6]
    assert [k for k, norm in zip(cos.x, cos.y, strict=True) if norm > 1e-6] == list(KEY)


def test_the_cluster_of_a_frequency(parts):
    _, activations, weights, _ = parts
    members = neuron_frequencies(activations.neurons).cluster(5)
    fig = spectra.cluster_spectrum(component_norms(weights.neuron_to_logit[members].T), 5, len(members))
    looks_finished(fig)
    assert "100.0% of the power" in fig.layout.title.text.replace("<br>", " ")


def test_frequency_ablation():
    losses = {1: 1e-6, 2: 1e-2, 3: 1.05e-6, 4: 1e-6, 5: 1e-1, 6: 1e-6}
    fig = spectra.frequency_ablation(losses, 1e-6, 5e-7, (2, 5))
    looks_finished(fig)
    key, other, full, restricted = fig.data
    assert list(key.x) == [2, 5] and list(other.x) == [1, 3, 4, 6]
    assert full.y[0] == 1e-6 and restricted.y[0] == 5e-7
    title = fig.layout.title.text.replace("<br>", " ")
    assert "at least 10,000 times" in title and "at most 5.0%" in title


def test_heads(parts):
    _, activations, weights, _ = parts
    fig = spectra.head_spectra(head_spectra(weights.head_values))
    looks_finished(fig)
    assert [int(np.argmax(trace.y)) + 1 for trace in fig.data] == list(KEY)
    assert "heads 0, 1 and 2" in fig.layout.title.text.replace("<br>", " ")
    basis = fourier_basis(P)
    wave = 0.5 + 0.3 * torch.stack([basis.vectors[1], basis.vectors[4]])
    components = spectra.head_components(wave @ basis.vectors.T)
    looks_finished(components)
    assert "frequency 1 and 2" in components.layout.title.text.replace("<br>", " ")
    pattern = torch.softmax(torch.randn(P, P, 3, 3, dtype=torch.float64), dim=-1)
    maps = grids.attention(pattern, head_fits(pattern)[0])
    looks_finished(maps)
    assert len(maps.data) == 3 and all(trace.zmin == 0 and trace.zmax == 1 for trace in maps.data)
    assert_close(values(maps.data[1]), pattern[:, :, 1, 0], dtype=torch.float32)


def test_maps_over_all_pairs(parts):
    _, activations, _, _ = parts
    found = neuron_frequencies(activations.neurons)
    norms = transform(activations.logits, fourier_basis(P)).norm(dim=-1)
    fig = grids.periodic(activations.attention, activations.neurons, found, norms)
    looks_finished(fig)
    assert_close(values(fig.data[1]), activations.neurons[..., 0], dtype=torch.float32)
    assert list(fig.data[2].x) == list(fourier_basis(P).labels) and values(fig.data[2])[0, 0] == 0
    marked = set(zip(fig.data[3].y, fig.data[3].x, strict=True))
    expected = {(f"{one} {k}", f"{two} {k}") for k in KEY for one in ("cos", "sin") for two in ("cos", "sin")}
    assert expected <= marked and ("cos 1", "cos 1") not in marked
    best = grids.cluster_neurons(activations.neurons, found)
    looks_finished(best)
    assert len(best.data) == 3
    signed = grids.grid_map(activations.logits[..., 0] - 5, "logit", "A signed map", signed=True)
    looks_finished(signed)
    assert signed.data[0].zmin == -signed.data[0].zmax
    assert grids.grid_map(activations.logits[..., 0], "logit", "One map").data[0].zmin != signed.data[0].zmin


def test_circles_are_circles_and_the_slider_moves_through_the_epochs(parts):
    _, _, weights, _ = parts
    planes = embedding_planes(weights.embed, KEY)
    at = on_planes(weights.embed, planes)
    assert_close(at.norm(dim=-1), torch.ones(3, P), dtype=torch.float64)
    angle = torch.atan2(at[..., 1], at[..., 0])
    for i, k in enumerate(KEY):
        turned = 2 * math.pi * k * torch.arange(P) / P
        assert_close(torch.cos(angle[i] - turned), torch.ones(P), dtype=torch.float64)
    fig = circuit.circles({0: at * 0.1, 100: at}, KEY)
    looks_finished(fig)
    assert [frame.name for frame in fig.frames] == ["0", "100"] and fig.layout.sliders[0].active == 1
    assert [step.label for step in fig.layout.sliders[0].steps] == ["0", "100"]
    assert_close(np.asarray(fig.frames[0].data[1].x, dtype=float), 0.1 * at[1, :, 0], dtype=torch.float32)
    assert not circuit.circles({0: at}, KEY).layout.sliders
    with pytest.raises(ValueError, match="at most 50 epochs, got 51"):
        circuit.circles(dict.fromkeys(range(51), at), KEY)
    with pytest.raises(ValueError, match="has a cosine only"):
        embedding_planes(torch.randn(6, 4, dtype=torch.float64), [3])


def test_interference_peaks_at_the_right_answer():
    logits = planted_logits(P, {2: 3.0, 5: 4.0})
    fig = circuit.interference(cosine_fit(logits, ModularAddition(P).answers, (2, 5)))
    looks_finished(fig)
    total = fig.data[-1]
    assert total.name == "their sum" and total.x[int(np.argmax(total.y))] == 0
    assert max(total.y) == pytest.approx(7.0, rel=1e-5) and "7 there" in fig.layout.title.text.replace("<br>", " ")


def test_neurons_by_share_and_phase():
    neurons = planted_neurons(P, {2: 4, 5: 8}, kind="relu", silent=1)
    found = neuron_frequencies(neurons)
    fig = circuit.neuron_shares(found)
    looks_finished(fig)
    assert len(fig.data[0].x) == 13 and f"{int((found.share > 0.85).sum())} of 13" in fig.layout.title.text
    phase = neuron_phases(neurons, found)
    planted = torch.tensor([-2 * math.pi * (i + 0.3) / n for n in (4, 8) for i in range(n)])
    assert_close(torch.cos(phase[:12] - planted), torch.ones(12), dtype=torch.float32)
    shown = circuit.neuron_map(found, phase, (2, 5))
    looks_finished(shown)
    assert [trace.name for trace in shown.data] == ["frequency 2", "frequency 5", "other"]
    assert [list(row) for row in shown.data[0].customdata] == [[n, 2] for n in range(4)]


def test_the_residual_stream_and_the_sites(parts):
    model, activations, weights, task = parts
    table = residual_table(activations, weights, task.answers)
    fig = circuit.residual_stream(table, KEY)
    looks_finished(fig)
    heat = fig.data[0]
    assert list(heat.x) == ["const", "k=2", "k=5", "k=6", "others", "mixed"]
    assert values(heat).sum() == pytest.approx(table.right_logit.to_numpy().sum(), rel=1e-5)
    assert heat.zmin == -heat.zmax
    losses = ablate_everywhere(model, KEY)
    assert list(losses.columns) == ["k=2", "k=5", "k=6", "all key", "all others"] and "attn_pattern" not in losses.index
    full = 1e-3
    sites = circuit.site_costs(losses, full)
    looks_finished(sites)
    assert_close(values(sites.data[0]), np.log10(np.maximum(losses.to_numpy() / full, 1e-12)), dtype=torch.float32)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1e-7, 1.0], 1), ([1e-8, 1.0], 2), ([1e-12, 1.0], 2), ([1.0], 1), ([], 1), ([0.0, 1e-30, 1.0], 6)],
)
def test_log_ticks_are_at_most_a_few(values, expected):
    assert style.log_dtick(values) == expected


def test_lists_read_well():
    assert style.listed([1]) == "1" and style.listed([1, 2]) == "1 and 2" and style.listed([1, 2, 3]) == "1, 2 and 3"
    assert style.listed([]) == ""
