import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fourier_circuits.analysis import losses
from fourier_circuits.task import ModularAddition
from tests import oracles
from tests.planted import angles, planted_logits, random_grid, random_mask
from tests.tolerance import assert_close


@st.composite
def cases(draw):
    p = draw(st.integers(3, 9))
    operation = draw(st.sampled_from(["add", "subtract"]))
    ks = draw(st.lists(st.integers(1, p // 2), min_size=1, unique=True))
    where = draw(st.sampled_from([None, random_mask(p, draw(st.integers(0, 9)))]))
    return (
        p,
        operation,
        ks,
        where,
        draw(st.sampled_from(["sum", "block"])),
        random_grid(p, p, seed=draw(st.integers(0, 99))),
    )


def as_numpy(mask):
    return None if mask is None else mask.numpy()


@given(cases())
def test_full_loss_and_accuracy(case):
    p, operation, _, where, _, logits = case
    answers = ModularAddition(p, operation).answers
    expected = oracles.cross_entropy(logits.numpy(), answers.numpy(), as_numpy(where))
    assert_close(losses.full_loss(logits, answers, where), expected)
    assert losses.accuracy(logits, answers, where) == pytest.approx(
        oracles.accuracy(logits.numpy(), answers.numpy(), as_numpy(where)), abs=1e-15
    )


@pytest.mark.parametrize(("keep", "function"), [(True, losses.restricted_loss), (False, losses.excluded_loss)])
@given(case=cases())
def test_restricted_and_excluded_loss(keep, function, case):
    p, operation, ks, where, directions, logits = case
    answers = ModularAddition(p, operation).answers
    edited = oracles.ablated(logits.numpy(), ks, directions, keep, 1 if operation == "add" else -1)
    expected = oracles.cross_entropy(edited, answers.numpy(), as_numpy(where))
    assert_close(function(logits, answers, ks, where=where, directions=directions), expected)


@given(cases())
def test_restricted_logits(case):
    p, operation, ks, _, directions, logits = case
    expected = oracles.ablated(logits.numpy(), ks, directions, True, 1 if operation == "add" else -1)
    answers = ModularAddition(p, operation).answers
    assert_close(losses.restricted_logits(logits, answers, ks, directions), expected)


def test_excluded_loss_of_each():
    logits, answers = random_grid(7, 7), ModularAddition(7).answers
    found = losses.excluded_loss_each(logits, answers, [3, 1], where=random_mask(7))
    assert list(found) == [3, 1]
    for k, loss in found.items():
        assert loss == losses.excluded_loss(logits, answers, [k], where=random_mask(7))


@pytest.mark.parametrize("operation", ["add", "subtract"])
@pytest.mark.parametrize("p", [7, 8])
def test_planted_logits_need_their_frequencies(p, operation):
    amplitudes = {1: 20.0, p // 2: 20.0}
    logits = planted_logits(p, amplitudes, operation=operation)
    answers = ModularAddition(p, operation).answers
    full = losses.full_loss(logits, answers)
    assert_close(losses.restricted_loss(logits, answers, amplitudes), full)
    assert_close(losses.excluded_loss(logits, answers, [2]), full)
    bias = math.log(sum(math.exp(c / 10) for c in range(p))) - sum(c / 10 for c in range(p)) / p
    assert_close(losses.excluded_loss(logits, answers, amplitudes), bias)


def test_tiny_losses_are_not_rounded_to_zero():
    logits = 30.0 * torch.nn.functional.one_hot(ModularAddition(5).answers, 5).double()
    found = losses.full_loss(logits, ModularAddition(5).answers)
    assert_close(found, 4 * math.exp(-30), relative=1e-3, because="1 + 4e-13 has three digits left in float64")


def test_float32_logits_are_scored_in_float64():
    logits = random_grid(5, 5).float()
    answers = ModularAddition(5).answers
    assert losses.cross_entropy(logits, answers) == losses.cross_entropy(logits.double(), answers)


def test_over_no_pair_there_is_no_loss():
    nowhere = torch.zeros(5, 5, dtype=torch.bool)
    logits, answers = random_grid(5, 5), ModularAddition(5).answers
    assert math.isnan(losses.full_loss(logits, answers, nowhere))
    assert math.isnan(losses.accuracy(logits, answers, nowhere))
    assert math.isnan(losses.excluded_loss(logits, answers, [1], where=nowhere))


@pytest.mark.parametrize("p", [5, 6])
def test_cosine_cube(p):
    for k in range(1, p // 2 + 1):
        expected = [
            [[math.cos(2 * math.pi * k * (a + b - c) / p) for c in range(p)] for b in range(p)] for a in range(p)
        ]
        assert_close(losses.cosine_cube(p, k), expected)
    assert_close(losses.cosine_cube(p, 1)[..., 0], angles(p, 1).cos())
