"""The checkpoints that the paper's authors published, against a naive forward pass and an independent program.

`*.expected.json` were computed elsewhere in float64 over all pairs; here, what losses, reading and `ablate` can give.
"""

import json

import numpy as np
import pytest
import torch

from fourier_circuits.ablation import ablate
from fourier_circuits.analysis.losses import accuracy, excluded_loss, full_loss, restricted_loss
from fourier_circuits.model.formats import load_model
from fourier_circuits.model.read import read_activations
from fourier_circuits.task import ModularAddition
from tests import oracles
from tests.tolerance import assert_close

ADDITION = ["low_precision_mod_addition", "mod_addition_no_wd"]
ANSWERS = ModularAddition(113).answers


@pytest.fixture(scope="module", params=ADDITION)
def case(request, official):
    """A model, its activations, and what is expected of it."""
    model = load_model(official / f"{request.param}.pth")
    expected = json.loads((official / f"{request.param}.expected.json").read_text())
    return model, read_activations(model), expected


def assert_as_printed(found: float, expected: float) -> None:
    """Within 0.1%, or 0.5% of a loss below 1e-6."""
    relative = 5e-3 if abs(expected) < 1e-6 else 1e-3
    assert_close(found, expected, relative=relative, because="computed by another program from float32 weights")


def test_the_comparison_can_fail():
    assert_as_printed(1.0009, 1.0)
    with pytest.raises(AssertionError):
        assert_as_printed(1.002, 1.0)
    assert_as_printed(1.004e-7, 1e-7)
    with pytest.raises(AssertionError):
        assert_as_printed(1.006e-7, 1e-7)


def test_loss_and_accuracy(case):
    _, activations, expected = case
    assert_as_printed(full_loss(activations.logits, ANSWERS), expected["full_loss_all"])
    assert_close(accuracy(activations.logits, ANSWERS), expected["accuracy_all"])


@pytest.mark.parametrize(
    ("function", "directions", "name"),
    [
        (restricted_loss, "sum", "restricted_loss_all"),
        (excluded_loss, "sum", "excluded_loss_all"),
        (restricted_loss, "block", "restricted_loss_block_all"),
        (excluded_loss, "block", "excluded_loss_block_all"),
    ],
)
def test_restricted_and_excluded_loss(case, function, directions, name):
    _, activations, expected = case
    ks = expected["key_frequencies_neurons_085"]
    assert_as_printed(function(activations.logits, ANSWERS, ks, directions=directions), expected[name])


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"at": "mlp_post", "keep": True, "directions": "sum"}, "keep_sum_at_mlp_post"),
        ({"at": "mlp_post", "directions": "sum"}, "remove_sum_at_mlp_post"),
        ({"at": "attn_out", "directions": "block"}, "remove_block_at_attn_out"),
    ],
)
def test_ablations(case, options, name):
    model, _, expected = case
    found = ablate(model, expected["key_frequencies_neurons_085"], **options)
    assert_as_printed(found.loss, expected[name])
    assert_as_printed(found.baseline_loss, expected["full_loss_all"])


def test_removing_each_key_frequency(case):
    model, _, expected = case
    found = ablate(model, expected["key_frequencies_neurons_085"], each=True)
    losses = {str(row.freqs[0]): row.loss for row in found.each}
    assert losses.keys() == expected["loss_removing_each_key_frequency_sum"].keys()
    for k, loss in expected["loss_removing_each_key_frequency_sum"].items():
        assert_as_printed(losses[k], loss)


def test_attention_to_equals(case):
    _, activations, expected = case
    found = activations.attention[..., 2].mean(dim=(0, 1))
    for head, value in enumerate(expected["attention_to_equals_mean"]):
        assert_as_printed(found[head], value)


def their_state(path) -> dict[str, np.ndarray]:
    """The raw file, turned by hand into the oracle's layout: heads of W_O one by one, no scaling of any weight."""
    raw = torch.load(path, weights_only=True, map_location="cpu")["model"]
    heads = next(t.shape[0] for name, t in raw.items() if name.endswith("W_Q"))
    state = {}
    for name, tensor in raw.items():
        value, kind = tensor.double().numpy(), name.rsplit(".", 1)[-1]
        if kind in ("W_Q", "W_K", "W_V"):
            value = np.stack([value[head].T for head in range(heads)])
        elif kind == "W_O":
            width = value.shape[1] // heads
            value = np.stack([value[:, head * width : (head + 1) * width].T for head in range(heads)])
        elif kind in ("W_E", "W_in", "W_out"):
            value = value.T
        if kind != "mask":
            state[name.removeprefix("attn_")] = value
    return state


def some_tokens(d_vocab: int, n_ctx: int) -> np.ndarray:
    return np.random.default_rng(0).integers(d_vocab, size=(4, n_ctx))


@pytest.mark.parametrize(
    ("name", "n_ctx", "counted"),
    [
        ("low_precision_mod_addition", 3, 1),
        ("mod_addition_no_wd", 3, 1),
        ("5_digit_addition_infinite", 18, 1),
        ("induction_head_infinite", 85, 2),
    ],
)
def test_the_loaded_model_is_theirs(official, name, n_ctx, counted):
    """The induction model's blocks add their input twice (2x + attn(x)), which loading folds into its weights."""
    path = official / f"{name}.pth"
    model = load_model(path)
    state = their_state(path)
    assert model.cfg.n_ctx == n_ctx
    assert model.cfg.d_vocab == len(state["embed.W_E"])
    assert model.cfg.d_vocab_out == state["unembed.W_U"].shape[1]
    tokens = some_tokens(model.cfg.d_vocab, n_ctx)
    expected = oracles.forward(state, tokens, stream_counted=counted)["logits"]
    found = model.to(torch.float64)(torch.from_numpy(tokens))
    assert_close(found, expected, relative=1e-6, because="weights were scaled by powers of two and held in float32")


def test_the_induction_model_read_plainly_is_another_function(official):
    """So that the test above would notice a loader that knows nothing of 2x."""
    path = official / "induction_head_infinite.pth"
    tokens = some_tokens(48, 85)
    state = their_state(path)
    plain = oracles.forward(state, tokens)["logits"]
    with pytest.raises(AssertionError):
        assert_close(plain, oracles.forward(state, tokens, stream_counted=2)["logits"], dtype=torch.float32)


def test_models_of_other_tasks_need_a_task(official):
    for name in ("5_digit_addition_infinite", "induction_head_infinite"):
        with pytest.raises(ValueError, match="cannot tell the task"):
            read_activations(load_model(official / f"{name}.pth"))


def test_a_single_state_has_no_epoch_to_choose(official):
    with pytest.raises(ValueError, match="leave epoch out"):
        load_model(official / "mod_addition_no_wd.pth", epoch=100)
