"""The residual table sums exactly to the model's logits."""

import pytest
import torch

from fourier_circuits.analysis.frequencies import neuron_frequencies
from fourier_circuits.analysis.residual import residual_table
from fourier_circuits.arrays import Activations
from fourier_circuits.model.config import ModelConfig
from fourier_circuits.model.read import read_activations, read_weights
from fourier_circuits.model.transformer import build_transformer
from fourier_circuits.task import ModularAddition
from tests import planted
from tests.tolerance import assert_close

SIZES = [
    ModelConfig(p=7, d_model=8, n_heads=2, d_head=4, d_mlp=12),
    ModelConfig(p=6, d_model=8, n_heads=2, d_head=4, d_mlp=12, d_vocab_out=6),
    ModelConfig(p=5, d_model=8, n_heads=2, d_head=4, d_mlp=12, n_layers=2),
    ModelConfig(p=5, d_model=8, n_heads=2, d_head=4, d_mlp=0, n_layers=2),
]


def table_of(config, clusters=None):
    model = build_transformer(config, state=planted.random_state(config), dtype=torch.float64)
    activations, weights = read_activations(model), read_weights(model)
    answers = ModularAddition(config.p).answers
    return residual_table(activations, weights, answers, clusters), activations, answers


@pytest.mark.parametrize("config", SIZES)
def test_components_and_frequencies_sum_to_the_logits(config):
    table, activations, _ = table_of(config)
    components = table.right_logit.index
    assert components[-1] == "unembed bias"
    assert_close(sum(table.logits(name) for name in components), activations.logits)
    by_cell = sum(table.logits(name, column) for name in components for column in table.right_logit.columns)
    assert_close(by_cell, activations.logits)


@pytest.mark.parametrize("config", SIZES)
def test_cells_sum_to_the_right_answers_advantage(config):
    table, activations, answers = table_of(config)
    advantage = activations.logits.gather(2, answers[..., None])[..., 0] - activations.logits.mean(dim=2)
    assert_close(table.right_logit.to_numpy().sum(), advantage.mean())


def test_one_cell_is_what_its_logits_say():
    table, _, answers = table_of(SIZES[0])
    logits = table.logits("mlp", 2)
    advantage = logits.gather(2, answers[..., None])[..., 0] - logits.mean(dim=2)
    assert_close(table.right_logit.loc["mlp", 2], advantage.mean())
    write = table.writes["head 1"]
    assert_close(table.power.loc["head 1"].sum(), write.square().sum())


def test_the_mlp_splits_into_clusters_others_and_bias():
    clusters = {1: torch.tensor([0, 3]), 3: torch.tensor([5])}
    table, activations, _ = table_of(SIZES[0], clusters)
    rows = [name for name in table.right_logit.index if name.startswith("mlp")]
    assert rows == ["mlp neurons of 1", "mlp neurons of 3", "mlp other neurons", "mlp bias"]
    assert_close(sum(table.logits(name) for name in table.right_logit.index), activations.logits)
    assert_close(table.writes["mlp bias"], table.writes["mlp bias"][0, 0].expand_as(table.writes["mlp bias"]))


def test_the_hand_made_circuit_writes_its_frequencies_through_the_mlp():
    model = planted.circuit_model(13, (2, 5, 6))
    activations, weights = read_activations(model), read_weights(model)
    clusters = neuron_frequencies(activations.neurons).clusters(share=0.6)
    table = residual_table(activations, weights, ModularAddition(13).answers, clusters).right_logit
    for k in (2, 5, 6):
        row = table.loc[f"mlp neurons of {k}"]
        assert row[k] > 0.7 * row.sum() > 0
    assert abs(table.loc["embed"].sum()) < 1e-9


def test_what_does_not_add_up_is_refused():
    config = SIZES[0]
    model = build_transformer(config, state=planted.random_state(config), dtype=torch.float64)
    a, weights = read_activations(model), read_weights(model)
    off = Activations(a.logits + 1.0, a.neurons, a.attention, a.writes)
    with pytest.raises(ValueError, match="defined for models without LayerNorm"):
        residual_table(off, weights, ModularAddition(7).answers)


def test_an_unknown_column_is_named():
    table, _, _ = table_of(SIZES[0])
    with pytest.raises(KeyError, match="columns are 'const', 1..3 and 'mixed'"):
        table.logits("mlp", 4)
