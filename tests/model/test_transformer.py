from math import prod

import pytest
import torch

from fourier_circuits.model.config import ModelConfig
from fourier_circuits.model.lens import state_of
from fourier_circuits.model.state import initial_state, is_trained, parameter_shapes
from fourier_circuits.model.transformer import build_transformer
from tests import oracles
from tests.planted import numpy_state, random_state
from tests.tolerance import assert_close

SMALL = {"d_model": 10, "n_heads": 2, "d_head": 3, "d_mlp": 7}


@pytest.mark.parametrize(
    "changes", [{}, {"n_layers": 2}, {"d_mlp": 0}, {"d_vocab_out": 6}, {"act_fn": "silu"}, {"n_layers": 2, "d_mlp": 0}]
)
def test_it_is_the_papers_transformer(changes):
    config = ModelConfig(p=6, **{**SMALL, **changes})
    state = random_state(config)
    model = build_transformer(config, state=state, dtype=torch.float64)
    tokens = oracles.all_pairs(6)
    expected = oracles.forward(numpy_state(state), tokens, act=config.act_fn)["logits"]
    assert_close(model(torch.from_numpy(tokens)), expected)


def test_the_comparison_notices_a_bias():
    config = ModelConfig(p=6, **SMALL)
    state = random_state(config)
    model = build_transformer(config, state=state, dtype=torch.float64)
    state["blocks.0.attn.b_K"] = state["blocks.0.attn.b_K"] + 0.1 * torch.arange(3)
    state["blocks.0.attn.b_Q"] = -state["blocks.0.attn.b_Q"]
    expected = oracles.forward(numpy_state(state), oracles.all_pairs(6))["logits"]
    with pytest.raises(AssertionError):
        assert_close(model(torch.from_numpy(oracles.all_pairs(6))), expected)


def test_fresh_weights_are_those_of_the_seed():
    config = ModelConfig(p=6, **SMALL)
    model = build_transformer(config, seed=4)
    expected = initial_state(config, 4)
    own = state_of(model)
    assert all(torch.equal(own[name], expected[name]) for name in parameter_shapes(config))
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("biases", [True, False])
def test_the_biases_the_paper_does_not_have_are_frozen(biases):
    config = ModelConfig(p=6, **SMALL, mlp_biases=biases)
    counted = sum(p.numel() for p in build_transformer(config).parameters() if p.requires_grad)
    assert counted == sum(prod(shape) for name, shape in parameter_shapes(config).items() if is_trained(name, config))


@pytest.mark.parametrize("harm", ["missing", "extra", "misshapen"])
def test_a_state_that_does_not_fit(harm):
    config = ModelConfig(p=6, **SMALL)
    state = random_state(config)
    if harm == "missing":
        del state["unembed.W_U"]
    elif harm == "extra":
        state["blocks.1.mlp.W_in"] = torch.zeros(1)
    else:
        state["unembed.W_U"] = state["unembed.W_U"].T
    with pytest.raises(RuntimeError, match="W_U|W_in"):
        build_transformer(config, state=state)


def test_the_state_given_is_copied():
    config = ModelConfig(p=6, **SMALL)
    state = random_state(config)
    before = state["unembed.W_U"].clone()
    model = build_transformer(config, state=state, dtype=torch.float64)
    with torch.no_grad():
        model.W_U.zero_()
    assert torch.equal(before, state["unembed.W_U"])
