"""The algorithm's statements hold where they were planted, and fail where they were not."""

import json

import numpy as np
import pytest
import torch

from fourier_circuits.analysis.circuit import (
    cosine_coefficients,
    cosine_fit,
    head_fits,
    head_spectra,
    map_residual,
    on_directions,
    polynomial_neurons,
    read_off,
    read_off_directions,
    with_neurons,
)
from fourier_circuits.analysis.frequencies import neuron_frequencies
from fourier_circuits.analysis.losses import cosine_cube, full_loss
from fourier_circuits.fourier.basis import fourier_basis
from fourier_circuits.model.formats import load_model
from fourier_circuits.model.hooks import edited_logits
from fourier_circuits.model.read import read_activations, read_weights, task_of
from fourier_circuits.task import ModularAddition
from tests import planted
from tests.tolerance import assert_close


def planted_pattern(p: int, k: int, alpha: float, beta: float) -> torch.Tensor:
    angle = planted.angles(p, k)[:, 0]
    wave = alpha * torch.cos(angle) + beta * torch.sin(angle)
    to_a = 0.5 + wave[:, None] - wave
    return torch.stack([to_a, 1 - to_a, torch.zeros_like(to_a)], dim=-1)[:, :, None]


@pytest.mark.parametrize(("p", "k"), [(13, 4), (13, 6), (12, 5)])
def test_head_fit_finds_frequency_and_amplitudes(p, k):
    pattern = planted_pattern(p, k, 0.1, -0.07)
    fits, fitted = head_fits(pattern)
    assert fits[0].frequency == k
    assert_close([fits[0].alpha, fits[0].beta, fits[0].constant], [0.1, -0.07, 0.5])
    assert_close(fits[0].fraction_of_variance_explained, 1.0)
    assert_close(fitted, pattern)


def test_head_fit_equals_least_squares_on_noise():
    p = 7
    pattern = torch.rand(p, p, 1, 3, generator=planted.generator(0), dtype=torch.float64)
    fit = head_fits(pattern)[0][0]
    target = pattern[:, :, 0, 0].numpy().ravel()
    best = 0.0
    for k in range(1, p // 2 + 1):
        x = 2 * np.pi * k * np.arange(p) / p
        columns = [np.ones((p, p)), np.cos(x)[:, None] - np.cos(x), np.sin(x)[:, None] - np.sin(x)]
        design = np.stack([c.ravel() for c in columns], axis=1)
        solution, *_ = np.linalg.lstsq(design, target, rcond=None)
        explained = 1 - np.var(target - design @ solution) / np.var(target)
        if explained > best:
            best, expected = explained, solution
    assert_close(fit.fraction_of_variance_explained, best)
    assert_close([fit.constant, fit.alpha, fit.beta], expected)


@pytest.mark.parametrize("p", [13, 12])
def test_cosine_coefficients_equal_least_squares(p):
    logits = planted.planted_logits(p, {2: 5.0, p // 2: 3.0}, noise=1.0)
    answers = ModularAddition(p).answers
    design = torch.stack([cosine_cube(p, k).flatten() for k in range(1, p // 2 + 1)], dim=1)
    expected = torch.linalg.lstsq(design, logits.flatten()[:, None]).solution[:, 0]
    assert_close(cosine_coefficients(logits, answers), expected)


def test_cosine_fit_of_planted_logits_and_of_subtraction():
    for operation in ("add", "subtract"):
        logits = planted.planted_logits(13, {2: 5.0, 6: 3.0}, operation=operation)
        fit = cosine_fit(logits, ModularAddition(13, operation).answers, [2, 6])
        assert_close(fit.coefficients, [5.0, 3.0])
        assert_close(fit.fraction_of_variance_explained, 1.0)
        wrong = cosine_fit(logits, ModularAddition(13, operation).answers, [2, 5])
        assert_close(wrong.fraction_of_variance_explained, 25 / 34)


def test_map_residual_and_read_off_of_a_planted_map():
    p, k = 13, 3
    basis = fourier_basis(p)
    waves = torch.stack([torch.cos(planted.angles(p, k)), torch.sin(planted.angles(p, k))], dim=-1)
    neurons = torch.cat([waves, planted.random_grid(p, 1)], dim=-1)
    neuron_to_logit = torch.zeros(3, p, dtype=torch.float64)
    neuron_to_logit[:2] = basis.vectors[basis.components(k)]
    assert map_residual(neuron_to_logit, [k]) < 1e-12
    rows = read_off(neurons, neuron_to_logit, [k])
    assert [row.label for row in rows] == ["cos 3", "sin 3"]
    assert_close([row.fraction_of_variance_explained for row in rows], [1.0, 1.0])
    assert_close(rows[0].coefficients, [1.0, 1.0])
    assert set(rows[0].terms) == {"cos 3 x cos 3", "sin 3 x sin 3"}
    neuron_to_logit[2, 0] = 1.0
    assert map_residual(neuron_to_logit, [k]) > 0.5


def test_projections_on_and_off_the_read_off_directions():
    draw = planted.generator(0)
    neuron_to_logit = torch.randn(20, 13, generator=draw, dtype=torch.float64)
    neurons, logits = planted.random_grid(13, 20), planted.random_grid(13, 13, seed=1)
    on = on_directions(neurons, read_off_directions(neuron_to_logit, [2, 5]))
    assert_close(on_directions(on, read_off_directions(neuron_to_logit, [2, 5])), on)
    assert torch.linalg.matrix_rank(on.flatten(0, 1)) == 4
    expected = logits - neurons @ neuron_to_logit + on @ neuron_to_logit
    assert_close(with_neurons(logits, neurons, on, neuron_to_logit), expected)


def test_polynomial_neurons_change_only_what_is_not_polynomial():
    neurons = planted.planted_neurons(13, {2: 3, 5: 2})
    other = planted.random_grid(13, 4)
    both = torch.cat([neurons, other], dim=-1)
    found = neuron_frequencies(both)
    assert_close(polynomial_neurons(both, found), both)
    dropped = polynomial_neurons(both, found, drop=5)
    assert_close(dropped[..., 3:5], neurons[..., 3:5].mean(dim=(0, 1)).expand(13, 13, 2))
    relu = planted.planted_neurons(13, {2: 1}, "relu")
    assert (polynomial_neurons(relu, neuron_frequencies(relu), share=0.5) - relu).norm() > 1e-3


def test_head_spectra_of_one_frequency():
    basis = fourier_basis(13)
    values = basis.vectors[basis.components(4)].sum(0)[None, :, None] * torch.ones(2, 1, 3, dtype=torch.float64)
    assert_close(head_spectra(values)[:, 3], [1.0, 1.0])


@pytest.mark.parametrize("name", ["low_precision_mod_addition", "mod_addition_no_wd"])
def test_the_authors_checkpoints_as_an_independent_program_measured_them(official, name):
    expected = json.loads((official / f"{name}.expected.json").read_text())
    model = load_model(official / f"{name}.pth")
    task, a, w = task_of(model), read_activations(model), read_weights(model)
    ks = expected["key_frequencies_neurons_085"]
    found = neuron_frequencies(a.neurons)
    on = on_directions(a.neurons, read_off_directions(w.neuron_to_logit, ks))
    fits, _ = head_fits(a.attention)
    cosines = cosine_fit(a.logits, task.answers, ks)
    middle = sum(grid for part, grid in a.writes.items() if part != "mlp")
    before = a.writes["embed"] + a.writes["pos_embed"]

    def loss(logits):
        return full_loss(logits, task.answers)

    def with_edit(**edit):
        return loss(edited_logits(model, task, edit).logits)

    def neurons(instead):
        return loss(with_neurons(a.logits, a.neurons, instead, w.neuron_to_logit))

    ours = {
        "neurons_over_085": sum(len(cluster) for cluster in found.clusters().values()),
        "neurons_per_frequency": {str(k): len(cluster) for k, cluster in found.clusters().items()},
        "W_L_residual_norm_ratio": map_residual(w.neuron_to_logit, ks),
        "readoff_fve": [r.fraction_of_variance_explained for r in read_off(a.neurons, w.neuron_to_logit, ks)],
        "logits_cos_fve_centred": cosines.fraction_of_variance_explained,
        "logits_cos_coefficients": list(cosines.coefficients),
        "loss_of_cos_logits": loss(cosines.logits),
        "neurons_to_polynomials_loss": neurons(polynomial_neurons(a.neurons, found)),
        "project_on_W_L_directions_loss": neurons(on),
        "project_off_W_L_directions_loss": neurons(a.neurons - on),
        "mlp_skip_zero_loss": with_edit(resid_post=lambda grid: grid - middle),
        "mlp_skip_mean_loss": with_edit(resid_post=lambda grid: grid - middle + middle.mean(dim=(0, 1))),
        "attn_heads_zero_loss": with_edit(attn_out=torch.zeros_like),
        "attn_skip_zero_loss": with_edit(resid_mid=lambda grid: grid - before),
        "head_frequency": [fit.frequency for fit in fits],
        "head_linear_fve": [fit.fraction_of_variance_explained for fit in fits],
    }
    for key, value in ours.items():
        assert value == pytest.approx(expected[key], rel=1e-6), key
    top6 = component_power_top(w.embed, 6)
    assert top6 == expected["embedding_top6"]


def component_power_top(matrix: torch.Tensor, count: int) -> list[int]:
    from fourier_circuits.analysis.frequencies import power_shares

    return sorted((power_shares(matrix).topk(count).indices + 1).tolist())
