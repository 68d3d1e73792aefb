"""The four key-frequency rules find what was planted and nothing else."""

import pickle

import pytest
import torch

from fourier_circuits.analysis.frequencies import (
    component_norms,
    key_by_excluded_loss,
    key_by_neurons,
    key_by_spectrum,
    neuron_frequencies,
    power_shares,
)
from fourier_circuits.fourier.basis import fourier_basis
from fourier_circuits.identification import key_frequencies
from fourier_circuits.model.config import ModelConfig
from fourier_circuits.model.formats import load_model
from fourier_circuits.model.read import read_activations, read_weights
from fourier_circuits.model.transformer import build_transformer
from fourier_circuits.task import ModularAddition
from tests import oracles, planted
from tests.tolerance import assert_close

PLANTED = [(13, {2: 5, 6: 4}), (12, {1: 4, 6: 4}), (31, {15: 6, 4: 2})]


@pytest.mark.parametrize(("p", "counts"), PLANTED)
@pytest.mark.parametrize("kind", ["polynomial", "relu"])
def test_neurons_find_the_planted_frequencies_the_top_one_included(p, counts, kind):
    neurons = planted.planted_neurons(p, counts, kind, silent=3)
    noise = torch.randn(neurons.shape, generator=planted.generator(1), dtype=torch.float64)
    share = 0.7 if kind == "relu" else 0.85
    found = key_by_neurons(neurons + 0.01 * noise * (neurons.std(dim=(0, 1)) > 0), share=share)
    assert set(found) == set(counts)
    assert {k: found.evidence.loc[k, "neurons"] for k in counts} == counts


def test_neuron_shares_equal_a_dull_loop():
    neurons = planted.random_grid(7, 3, seed=2)
    found = neuron_frequencies(neurons)
    for n in range(3):
        power = oracles.power_per_frequency(neurons[..., n].numpy())
        total = neurons[..., n].var(correction=0).item() * 49
        assert_close(found.by_frequency[:, n], torch.tensor(power) / total)


def test_a_neuron_of_two_frequencies_or_of_none_belongs_to_no_cluster():
    mixed = planted.mixed_neuron(13, 2, 5)
    constant = torch.full((13, 13), 3.0, dtype=torch.float64)
    found = neuron_frequencies(torch.stack([mixed, constant, planted.polynomial_neuron(13, 4)], dim=-1))
    assert found.frequency.tolist()[1:] == [0, 4]
    assert found.share[0] < 1e-9 and found.share[1] == 0
    assert {k: c.tolist() for k, c in found.clusters().items()} == {4: [2]}


def test_one_neuron_in_five_hundred_is_not_enough():
    noise = planted.random_grid(13, 500)
    stray = torch.cat([noise, planted.planted_neurons(13, {3: 1})], dim=-1)
    assert key_by_neurons(stray) == ()
    assert key_by_neurons(stray, at_least=0) == (3,)


@pytest.mark.parametrize("p", [13, 12])
def test_spectrum_finds_rows_that_stand_out(p):
    basis = fourier_basis(p)
    matrix = 0.02 * torch.randn(p, 20, generator=planted.generator(0), dtype=torch.float64)
    for k in (2, p // 2):
        for i in basis.components(k):
            matrix += basis.vectors[i][:, None] * torch.randn(20, generator=planted.generator(i), dtype=torch.float64)
    found = key_by_spectrum(matrix, "embedding")
    assert found == (2, p // 2)
    assert_close(found.evidence["share"].sum(), 1.0)
    assert_close(component_norms(matrix).square().sum(), matrix.square().sum())


def test_a_flat_spectrum_has_no_key_frequency():
    matrix = torch.randn(113, 128, generator=planted.generator(0), dtype=torch.float64)
    assert key_by_spectrum(matrix, "embedding") == ()
    assert power_shares(matrix).max() < 0.04


def test_excluded_loss_names_the_frequencies_that_the_logits_need():
    logits = planted.planted_logits(13, {3: 30.0, 6: 25.0}, noise=0.1)
    assert key_by_excluded_loss(logits, ModularAddition(13).answers) == (3, 6)


@pytest.mark.parametrize("by", ["neurons", "neuron_logit_map", "embedding", "excluded_loss"])
def test_a_circuit_built_by_hand_has_its_frequencies_by_every_rule(by):
    model = planted.circuit_model(13, (2, 5, 6))
    thresholds = {"share": 0.6} if by == "neurons" else {}
    assert key_frequencies(model, by=by, **thresholds) == (2, 5, 6)


@pytest.mark.parametrize("by", ["neurons", "neuron_logit_map", "embedding"])
def test_fresh_weights_have_none_and_the_result_says_so(by):
    found = key_frequencies(build_transformer(ModelConfig.paper(), seed=3), by=by)
    assert found == ()
    assert "none: no Fourier circuit" in repr(found)


def test_arrays_serve_in_place_of_a_model():
    model = planted.circuit_model()
    activations, weights = read_activations(model), read_weights(model)
    assert key_frequencies(activations, by="excluded_loss") == key_frequencies(weights, by="embedding") == (2, 5, 6)
    with pytest.raises(ValueError, match="'embedding' needs Weights or a model, got Activations"):
        key_frequencies(activations, by="embedding")
    with pytest.raises(ValueError, match="by must be one of neurons, neuron_logit_map, embedding, excluded_loss"):
        key_frequencies(model, by="magic")


def test_it_is_a_tuple_of_ints_with_evidence_and_survives_pickling():
    found = key_frequencies(planted.circuit_model(), by="neuron_logit_map")
    assert isinstance(found, tuple) and all(type(k) is int for k in found)
    again = pickle.loads(pickle.dumps(found))
    assert again == found and again.rule == "neuron_logit_map"
    assert list(found.evidence.index) == [1, 2, 3, 4, 5, 6]
    assert "<table" in found._repr_html_()


def test_the_authors_checkpoints(official):
    low = load_model(official / "low_precision_mod_addition.pth")
    assert key_frequencies(low) == (6, 23, 39)
    assert key_frequencies(low, by="neuron_logit_map") == (3, 6, 23, 39)
    no_decay = load_model(official / "mod_addition_no_wd.pth")
    for by in ("neurons", "neuron_logit_map", "excluded_loss"):
        assert key_frequencies(no_decay, by=by) == (36, 52)
