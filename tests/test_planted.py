"""The planted inputs hold what they say they hold, judged by the oracles."""

import numpy as np
import pytest
import torch

from tests import oracles
from tests.planted import (
    circuit_logits,
    circuit_model,
    circuit_state,
    mixed_neuron,
    numpy_state,
    planted_logits,
    planted_neurons,
    polynomial_neuron,
)
from tests.tolerance import assert_close

P, KS = 13, (2, 5, 6)


def shares(neurons: torch.Tensor) -> np.ndarray:
    """Share of each neuron's variance in the block of every frequency: (frequency, neuron)."""
    grid = neurons.numpy()
    return oracles.power_per_frequency(grid) / ((grid - oracles.constant_part(grid)) ** 2).sum(axis=(0, 1))


@pytest.mark.parametrize(("p", "ks"), [(13, (1, 6)), (12, (1, 6)), (7, (3,))])
def test_polynomial_neurons_lie_in_their_block(p, ks):
    found = shares(planted_neurons(p, dict.fromkeys(ks, 2)))
    for i, k in enumerate(np.repeat(ks, 2)):
        assert_close(found[k - 1, i], 1.0)


def test_relu_neurons_lie_mostly_in_their_block():
    found = shares(planted_neurons(P, {2: 4, 6: 4}, kind="relu"))
    assert (found[1, :4] > 0.85).all()
    assert (found[5, 4:] > 0.85).all()


def test_a_mixed_neuron_lies_in_no_block():
    assert shares(mixed_neuron(P, 2, 5)[..., None]).max() < 1e-12
    with pytest.raises(AssertionError):
        assert shares(polynomial_neuron(P, 2)[..., None]).max() < 1e-12


@pytest.mark.parametrize("operation", ["add", "subtract"])
@pytest.mark.parametrize("p", [7, 8])
def test_planted_logits_are_constant_plus_sum_directions(p, operation):
    logits = planted_logits(p, {1: 2.0, p // 2: 3.0}, operation=operation).numpy()
    sign = 1 if operation == "add" else -1
    assert_close(oracles.ablated(logits, [1, p // 2], "sum", keep=True, sign=sign), logits)
    a = np.arange(p)
    assert (logits - 0.1 * a).argmax(axis=2).tolist() == ((a[:, None] + sign * a) % p).tolist()


@pytest.mark.parametrize("p", [7, 8])
def test_noise_is_noticed(p):
    logits = planted_logits(p, {1: 2.0}, noise=1e-3).numpy()
    with pytest.raises(AssertionError):
        assert_close(oracles.ablated(logits, [1], "sum", keep=True), logits)


@pytest.mark.parametrize("phases", [15, 45])
def test_the_hand_made_model_adds(phases):
    seen = oracles.forward(numpy_state(circuit_state(P, KS, phases)), oracles.all_pairs(P))
    logits = seen["logits"][:, -1, :P].reshape(P, P, P)
    a = np.arange(P)
    assert oracles.accuracy(logits, (a[:, None] + a) % P) == 1.0
    assert_close(
        logits,
        circuit_logits(P, KS),
        relative=8 / phases**2,
        because="a sum over so many phases stands for an integral, and 1/harmonic^2 of ReLU is aliased",
    )
    assert_close(seen["0.attn_pattern"][:, :, -1], np.full((P * P, len(KS), 3), 1 / 3))


@pytest.mark.parametrize("answers_only", [True, False])
def test_the_hand_made_model_as_a_transformer(answers_only):
    model = circuit_model(P, KS, answers_only=answers_only)
    expected = oracles.forward(numpy_state(circuit_state(P, KS, answers_only=answers_only)), oracles.all_pairs(P))
    assert_close(model(torch.from_numpy(oracles.all_pairs(P))), expected["logits"])


def test_the_hand_made_models_neurons_have_its_frequencies():
    seen = oracles.forward(numpy_state(circuit_state(P, KS)), oracles.all_pairs(P))
    best = shares(torch.from_numpy(seen["0.mlp_post"][:, -1].reshape(P, P, -1)))
    assert (best.argmax(axis=0) + 1).tolist() == [k for k in KS for _ in range(15)]
    assert best.max(axis=0).min() > 0.85
