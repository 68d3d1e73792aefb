"""Fresh weights: their sizes, spreads and the exact values of seed 0."""

from math import sqrt

import pytest
import torch

from fourier_circuits.model.config import ModelConfig
from fourier_circuits.model.state import initial_state, is_trained, parameter_shapes, short_name
from tests.tolerance import assert_close

PAPER = ModelConfig.paper()


def test_parameter_count_at_the_papers_sizes():
    state = initial_state(PAPER, 0)
    assert sum(tensor.numel() for name, tensor in state.items() if is_trained(name, PAPER)) == 226_816


def test_standard_deviations():
    state = initial_state(PAPER, 3)
    for name, tensor in state.items():
        if short_name(name).startswith("b_"):
            assert (tensor == 0).all()
        else:
            spread = 1 / sqrt(114 if name == "unembed.W_U" else 128)
            allowed = 4 * spread / sqrt(2 * tensor.numel())
            assert abs(tensor.std().item() - spread) < allowed, name
            assert abs(tensor.mean().item()) < 4 * spread / sqrt(tensor.numel()), name


def test_unembedding_spreads_with_the_logits_not_the_stream():
    wide = initial_state(ModelConfig(p=113, d_model=16, d_vocab_out=1600), 0)["unembed.W_U"]
    assert_close(wide.std(), 1 / 40, relative=0.05, because="a sample's spread")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("embed.W_E", [-0.09951112419366837, -0.10185521841049194, 0.04154262691736221]),
        ("blocks.0.attn.W_O", [-0.04646359756588936, 0.06074744835495949, 0.15374846756458282]),
        ("blocks.0.mlp.W_in", [0.025912493467330933, -0.014959205873310566, 0.06998255103826523]),
        ("unembed.W_U", [0.031582605093717575, 0.04469127207994461, -0.19836904108524323]),
    ],
)
def test_seed_0_means_these_weights(name, expected):
    flat = initial_state(PAPER, 0)[name].flatten()
    assert_close(flat[[0, 1, -1]], expected, dtype=torch.float32)


def test_seeds_differ_and_repeat_and_leave_torchs_own_generator_alone():
    before = torch.get_rng_state()
    first, again, other = (initial_state(ModelConfig(p=5, d_model=8), seed)["embed.W_E"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("biases", [True, False])
def test_which_parameters_are_trained(biases):
    config = ModelConfig(p=5, mlp_biases=biases, n_layers=2)
    trained = {short_name(name) for name in parameter_shapes(config) if is_trained(name, config)}
    weights = {"W_E", "W_pos", "W_Q", "W_K", "W_V", "W_O", "W_in", "W_out", "W_U"}
    assert trained == weights | ({"b_in", "b_out"} if biases else set())


def test_attention_only_models_have_no_mlp():
    assert not any(".mlp." in name for name in parameter_shapes(ModelConfig(p=5, d_mlp=0)))
