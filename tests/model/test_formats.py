"""Checkpoints of every layout come back as the same model."""

import numpy as np
import pytest
import safetensors.torch
import torch

from fourier_circuits.model import formats
from fourier_circuits.model.config import ModelConfig
from fourier_circuits.model.formats import load_model, load_state, save_state
from fourier_circuits.model.lens import state_of
from fourier_circuits.model.state import parameter_shapes
from fourier_circuits.model.transformer import build_transformer
from tests import oracles
from tests.planted import hooked_state_dict, numpy_state, random_state
from tests.tolerance import assert_close

SIZES = {"p": 7, "d_model": 10, "n_heads": 2, "d_head": 3, "d_mlp": 9}
CONFIG = ModelConfig(**SIZES)
TOKENS = torch.from_numpy(oracles.all_pairs(7))


def float_state(config=CONFIG, seed=0):
    return {name: tensor.float() for name, tensor in random_state(config, seed).items()}


def paper_state(seed=0):
    """The authors' model has no other biases than the MLP's."""
    own = ("b_in", "b_out")
    return {
        n: t if ".b_" not in n or n.endswith(own) else torch.zeros_like(t) for n, t in float_state(seed=seed).items()
    }


def authors(state):
    return {
        name: torch.from_numpy(value).float() for name, value in oracles.to_authors_layout(numpy_state(state)).items()
    }


def assert_same_model(path, state, config=CONFIG, epoch=None):
    """Identical logits, bit by bit."""
    model = load_model(path, epoch)
    expected = build_transformer(config, state=state)
    assert torch.equal(model(TOKENS), expected(TOKENS))


def test_the_same_model_check_can_fail(tmp_path):
    save_state(tmp_path / "model", float_state(), CONFIG)
    with pytest.raises(AssertionError):
        assert_same_model(tmp_path / "model", float_state(seed=1))


@pytest.mark.parametrize("changes", [{}, {"n_layers": 2}, {"d_mlp": 0}, {"act_fn": "gelu", "mlp_biases": False}])
def test_our_format_round_trip(tmp_path, changes):
    config = ModelConfig(**{**SIZES, **changes})
    state = float_state(config)
    path = tmp_path / "deep" / "down" / "model.safetensors"
    save_state(path, state, config, {"epoch": 300})
    found, found_config = load_state(path)
    assert found_config == config
    assert list(found) == list(parameter_shapes(config))
    assert all(torch.equal(found[name], state[name]) for name in state)
    assert [file.name for file in path.parent.iterdir()] == ["model.safetensors"]
    with safetensors.safe_open(path, framework="pt") as file:
        assert file.metadata()["epoch"] == "300"
    assert_same_model(path, state, config)


def test_a_view_is_saved_too(tmp_path):
    """Trained weights are views into one vector, and a transposed one is not contiguous."""
    state = float_state()
    state["blocks.0.mlp.W_in"] = state["blocks.0.mlp.W_in"].T.contiguous().T
    save_state(tmp_path / "m", state, CONFIG)
    assert_same_model(tmp_path / "m", state)


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m"
    save_state(path, float_state(), CONFIG)
    monkeypatch.setattr(formats.os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        save_state(path, float_state(seed=1), CONFIG)
    assert [file.name for file in tmp_path.iterdir()] == ["m"]
    assert_same_model(path, float_state())


def test_a_run_folder(tmp_path):
    for epoch in (0, 100, 200, 1100):
        save_state(formats.checkpoint_path(tmp_path, epoch), float_state(seed=epoch), CONFIG)
    (tmp_path / "checkpoints" / "notes.txt").write_text("not a checkpoint")
    assert formats.checkpoint_epochs(tmp_path) == [0, 100, 200, 1100]
    assert_same_model(tmp_path, float_state(seed=1100))
    assert_same_model(str(tmp_path), float_state(seed=100), epoch=100)
    with pytest.raises(FileNotFoundError, match="has no checkpoint at epoch 150; nearest are 100 and 200$"):
        load_model(tmp_path, 150)
    with pytest.raises(FileNotFoundError, match="nearest are 200 and 1100$"):
        load_model(tmp_path, 5000)


NAMES = ["model.pth", "model.pt", "model.safetensors", "model", "model.txt"]


@pytest.mark.parametrize("name", NAMES)
def test_the_authors_layout_whatever_the_file_is_called(tmp_path, name):
    state = paper_state()
    torch.save(authors(state), tmp_path / name)
    assert_same_model(tmp_path / name, state)


def test_the_authors_layout_inside_what_they_saved(tmp_path):
    state = paper_state()
    torch.save({"model": authors(state), "train_losses": [1.0, 0.5], "epoch": 3}, tmp_path / "final.pth")
    assert_same_model(tmp_path / "final.pth", state)


@pytest.mark.parametrize(
    "sizes", [{"n_heads": 1}, {"d_head": 10, "n_heads": 1}, {"d_mlp": 10}, {"n_heads": 5, "d_head": 2}]
)
def test_the_authors_layout_when_sizes_coincide(tmp_path, sizes):
    """A square matrix has the same shape either way round: the layout must come from another one."""
    config = ModelConfig(**{**SIZES, **sizes})
    full = random_state(config)
    state = {n: (t if ".b_" not in n or n.endswith(("b_in", "b_out")) else 0 * t).float() for n, t in full.items()}
    torch.save(authors(state), tmp_path / "m.pth")
    assert_same_model(tmp_path / "m.pth", state, config)


def full_run(epochs=(0, 100, 200, 300)):
    states = {epoch: paper_state(seed=epoch) for epoch in epochs}
    saved = {
        "epochs": list(epochs),
        "state_dicts": [authors(state) for state in states.values()],
        "model": authors(paper_state(seed=7)),
        "train_losses": [0.1] * 300,
        "test_losses": [0.1] * 300,
        "config": {"p": 7, "lr": 1e-3},
    }
    return saved, states


def test_a_full_run_of_theirs_and_its_epochs(tmp_path):
    saved, states = full_run()
    torch.save(saved, tmp_path / "full_run_data.pth")
    assert_same_model(tmp_path / "full_run_data.pth", states[300])
    assert_same_model(tmp_path / "full_run_data.pth", states[100], epoch=100)
    assert_same_model(tmp_path / "full_run_data.pth", states[0], epoch=0)
    with pytest.raises(FileNotFoundError, match=r"has no state at epoch 140; nearest are 100 and 200$"):
        load_model(tmp_path / "full_run_data.pth", 140)


def test_epochs_of_theirs_as_a_tensor(tmp_path):
    saved, states = full_run()
    saved["epochs"] = torch.tensor(saved["epochs"])
    torch.save(saved, tmp_path / "run.pth")
    assert_same_model(tmp_path / "run.pth", states[200], epoch=200)


def test_a_single_state_has_no_epochs(tmp_path):
    torch.save(authors(paper_state()), tmp_path / "m.pth")
    with pytest.raises(ValueError, match="holds a single state: leave epoch out"):
        load_model(tmp_path / "m.pth", 100)
    save_state(tmp_path / "m.safetensors", float_state(), CONFIG)
    with pytest.raises(ValueError, match="holds a single state: leave epoch out"):
        load_model(tmp_path / "m.safetensors", 100)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("as_safetensors", [False, True])
@pytest.mark.parametrize("logits", [7, 8])
def test_a_transformers_state_dict_whatever_the_file_is_called(tmp_path, name, as_safetensors, logits):
    config = ModelConfig(**SIZES, d_vocab_out=logits)
    state = float_state(config)
    raw = hooked_state_dict(build_transformer(config, state=state))
    assert any(key.endswith(".mask") for key in raw)
    if as_safetensors:
        safetensors.torch.save_file({key: tensor.contiguous() for key, tensor in raw.items()}, tmp_path / name)
    else:
        torch.save(raw, tmp_path / name)
    found, found_config = load_state(tmp_path / name)
    assert found_config == config
    assert all(torch.equal(found[key], state[key]) for key in state)
    assert_same_model(tmp_path / name, state, config)


@pytest.mark.parametrize("changes", [{"n_layers": 2}, {"d_mlp": 0}, {"d_mlp": 0, "n_layers": 2}, {"n_ctx": 5}])
def test_a_transformers_state_dict_of_other_depths(tmp_path, changes):
    config = ModelConfig(**{**SIZES, **changes})
    state = float_state(config)
    torch.save(hooked_state_dict(build_transformer(config, state=state)), tmp_path / "m.pt")
    assert load_state(tmp_path / "m.pt")[1] == config
    assert_same_model(tmp_path / "m.pt", state, config)


def test_zero_biases_may_be_left_out(tmp_path):
    state = paper_state()
    torch.save({n: t for n, t in state.items() if ".b_" not in n or t.any()}, tmp_path / "m.pt")
    assert_same_model(tmp_path / "m.pt", state)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_dtypes_become_float32(tmp_path, dtype):
    state = {name: tensor.to(dtype) for name, tensor in float_state().items()}
    torch.save(state, tmp_path / "m.pt")
    found, _ = load_state(tmp_path / "m.pt")
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    assert_close(found["unembed.W_U"], state["unembed.W_U"], dtype=torch.float32)


def test_a_module_that_was_trained_loads(tmp_path):
    """Parameters instead of tensors, as a hand-made dict of `model.named_parameters()` has them."""
    model = build_transformer(CONFIG, state=float_state())
    torch.save({n: torch.nn.Parameter(t) for n, t in state_of(model).items()}, tmp_path / "m.pt")
    assert_same_model(tmp_path / "m.pt", float_state())


def test_the_induction_models_doubled_stream():
    """Blocks that add their input twice, folded into the weights."""
    config = ModelConfig(p=7, d_model=8, n_heads=2, d_head=4, d_mlp=0, n_layers=2, d_vocab_out=11)
    state = {n: t if ".b_" not in n else 0 * t for n, t in random_state(config).items()}
    raw = {}
    for name, value in numpy_state(state).items():
        if ".b_" in name:
            continue
        turned = {"W_E": value.T, "W_O": None, "W_Q": None, "W_K": None, "W_V": None}.get(name[-3:], value)
        if name[-3:] in ("W_Q", "W_K", "W_V"):
            turned = np.swapaxes(value, 1, 2)
        elif name[-3:] == "W_O":
            turned = np.concatenate([head.T for head in value], axis=1)
        raw["attn_" + name if name.startswith("blocks") else name] = torch.from_numpy(np.ascontiguousarray(turned))
    found, found_config = formats.to_state(raw)
    assert found_config == config
    expected = oracles.forward(numpy_state(state), TOKENS.numpy(), stream_counted=2)["logits"]
    model = build_transformer(config, state={n: t.double() for n, t in found.items()}, dtype=torch.float64)
    assert_close(model(TOKENS), expected, dtype=torch.float32)
