import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fourier_circuits.task import GridTask, ModularAddition


@pytest.mark.parametrize(("p", "fraction", "seed"), [(113, 0.3, 0), (113, 0.3, 7), (12, 0.5, 1), (5, 1.0, 0)])
def test_split_is_pythons_shuffle_of_the_list_of_pairs(p, fraction, seed):
    pairs = [(a, b) for a in range(p) for b in range(p)]
    random.seed(seed)
    random.shuffle(pairs)
    expected = set(pairs[: int(fraction * len(pairs))])
    mask = ModularAddition(p).split(fraction, seed)
    assert {(int(a), int(b)) for a, b in mask.nonzero()} == expected


def test_split_sizes_at_the_papers_sizes():
    assert int(ModularAddition(113).split(0.3, seed=0).sum()) == 3830


def test_split_leaves_pythons_own_random_alone():
    random.seed(5)
    state = random.getstate()
    ModularAddition(7).split(0.3, 0)
    assert random.getstate() == state


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01, float("nan")])
def test_split_fraction_out_of_range(fraction):
    with pytest.raises(ValueError, match=r"training fraction must lie in \(0, 1\]"):
        ModularAddition(5).split(fraction, 0)


@given(p=st.integers(3, 20), operation=st.sampled_from(["add", "subtract"]), separate=st.booleans())
def test_tokens_and_answers(p, operation, separate):
    task = ModularAddition(p, operation, separate_operands=separate)
    for a in range(p):
        for b in range(p):
            assert task.tokens[a, b].tolist() == [a, p + b if separate else b, 2 * p if separate else p]
            assert int(task.answers[a, b]) == ((a + b) if operation == "add" else (a - b)) % p
    assert task.equals_token == (2 * p if separate else p)
    assert task.context == 3
    assert task.outputs.tolist() == list(range(p))


def test_flat_tokens_are_lexicographic():
    task = ModularAddition(5)
    assert task.flat_tokens()[5 * 2 + 3].tolist() == [2, 3, 5]
    assert task.flat_tokens().shape == (25, 3)


def test_no_equals_token_where_the_last_token_varies():
    task = ModularAddition(5)
    turned = GridTask(5, task.tokens.flip(-1), task.answers, task.outputs)
    assert turned.equals_token is None


@pytest.mark.parametrize("p", [2, 1, 0])
def test_p_too_small(p):
    with pytest.raises(ValueError, match="p must be at least 3"):
        ModularAddition(p)


def test_unknown_operation():
    with pytest.raises(ValueError, match="^operation must be 'add' or 'subtract', got 'times'$"):
        ModularAddition(5, "times")


def test_arrays_that_do_not_fit():
    task = ModularAddition(5)
    with pytest.raises(ValueError, match=r"grids of \(7, 7\) pairs, got \(5, 5, 3\) and \(5, 5\)"):
        GridTask(7, task.tokens, task.answers, task.outputs)
    with pytest.raises(ValueError, match="answers must index the 4 outputs"):
        GridTask(5, task.tokens, task.answers, torch.arange(4))
    with pytest.raises(ValueError, match="answers must index the 5 outputs"):
        GridTask(5, task.tokens, task.answers - 1, task.outputs)


def test_repr_names_the_task():
    assert repr(ModularAddition(5, "subtract")) == "ModularAddition(p=5, operation='subtract')"
