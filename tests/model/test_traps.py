"""What TransformerLens 4 does otherwise than its predecessor, and that none of it reaches our numbers.

All of it runs under both majors; the edit at resid_mid is among the sites of `test_hooks.py`.
"""

import pickle

import numpy as np
import pytest
import torch
from torch.nn import functional

from fourier_circuits.model.config import ModelConfig
from fourier_circuits.model.hooks import edited_logits
from fourier_circuits.model.lens import in_float64, state_of
from fourier_circuits.model.read import read_activations
from fourier_circuits.model.sites import SITES
from fourier_circuits.model.state import initial_state
from fourier_circuits.model.transformer import HookedTransformer, build_transformer
from fourier_circuits.task import ModularAddition
from tests import oracles
from tests.planted import numpy_state, random_state
from tests.tolerance import assert_close

P = 6
CONFIG = ModelConfig(p=P, d_model=10, n_heads=2, d_head=3, d_mlp=7)
TOKENS = torch.from_numpy(oracles.all_pairs(P))


@pytest.fixture
def model():
    return build_transformer(CONFIG, state=random_state(CONFIG), dtype=torch.float64)


def test_zero_in_the_middle_of_the_stream_leaves_what_the_mlp_makes_of_zero(model):
    """An edit at version 4's own `hook_resid_mid` would leave the path around the MLP as it was."""
    state = numpy_state(random_state(CONFIG))
    found = edited_logits(model, ModularAddition(P), {"resid_mid": torch.zeros_like}).logits
    post = np.maximum(state["blocks.0.mlp.b_in"], 0)
    stream = post @ state["blocks.0.mlp.W_out"] + state["blocks.0.mlp.b_out"]
    expected = stream @ state["unembed.W_U"] + state["unembed.b_U"]
    assert_close(found, np.broadcast_to(expected[:P], (P, P, P)))


def test_no_site_relies_on_attention_scores(model):
    """Version 4's `hook_attn_scores` already holds the pattern; ours is a softmax of the scores, from the weights."""
    assert not any("scores" in site.hook_point for site in SITES.values())
    state = numpy_state(random_state(CONFIG))
    expected = oracles.forward(state, oracles.all_pairs(P))["0.attn_pattern"][:, :, -1]
    assert_close(read_activations(model).attention, expected.reshape(P, P, 2, 3))


def test_training_moves_no_bias_that_the_paper_does_not_have():
    """`"b_" in name` finds no parameter of version 4, so that a script that freezes by it trains all biases."""
    model = build_transformer(CONFIG)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    functional.cross_entropy(model(TOKENS)[:, -1], TOKENS[:, 0]).backward()
    optimizer.step()
    moved = {name.rsplit(".", 1)[1] for name, tensor in state_of(model).items() if ".b_" in name and tensor.any()}
    assert moved == {"b_in", "b_out"}


def test_fresh_weights_have_the_same_scale_under_both():
    """Version 4's own W_O and W_out would be smaller by the square root of twice the layers."""
    wide = ModelConfig(p=P, d_model=64, n_heads=2, d_head=32, d_mlp=128)
    state = state_of(build_transformer(wide, seed=3))
    for name in ("blocks.0.attn.W_O", "blocks.0.mlp.W_out", "blocks.0.attn.W_Q", "embed.W_E"):
        assert torch.equal(state[name], initial_state(wide, 3)[name])
        assert state[name].std().item() == pytest.approx(1 / 8, rel=0.1)


def test_weights_and_sizes_travel_to_another_process_where_a_model_cannot(model):
    if HookedTransformer is None:
        with pytest.raises((AttributeError, TypeError, pickle.PicklingError)):
            pickle.dumps(model)
    config, state = pickle.loads(pickle.dumps((CONFIG, state_of(model))))
    assert torch.equal(build_transformer(config, state=state, dtype=torch.float64)(TOKENS), model(TOKENS))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_and_device_are_those_asked_for(dtype):
    model = build_transformer(CONFIG, dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    assert model(TOKENS).dtype == dtype
    precise = in_float64(model)
    assert precise(TOKENS).dtype == torch.float64 and next(model.parameters()).dtype == dtype


def test_no_option_is_dropped_in_silence():
    """Version 4 takes options that it does not carry out, and builds a LayerNorm for the word "none"."""
    with pytest.raises(ValueError, match=r"unknown model options \['use_attn_result'\]"):
        ModelConfig.from_dict({"use_attn_result": True})
    with pytest.raises(TypeError, match="unexpected keyword"):
        ModelConfig(normalization_type="none")  # pyright: ignore[reportCallIssue]
    model = build_transformer(CONFIG)
    assert model.cfg.normalization_type is None and model.cfg.act_fn == "relu"


def test_loading_is_strict(model):
    """A non-strict load of the other layout "succeeds" and loads nothing; here every tensor arrives, or an error."""
    state = random_state(CONFIG, seed=9)
    loaded = state_of(build_transformer(CONFIG, state=state, dtype=torch.float64))
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.items()) and set(loaded) == set(state)
    with pytest.raises(RuntimeError, match="missing, extra or misshapen"):
        build_transformer(CONFIG, state=model.state_dict() | {"blocks.0.ln1.w": torch.ones(10)})
