"""The oracles against what can be worked out by hand, so that they are not wrong in the way of the code they judge."""

import ast
from math import log, pi, sqrt
from pathlib import Path

import numpy as np
import pytest

from tests import oracles
from tests.tolerance import assert_close


def imports_of(source: str) -> set[str]:
    """Top-level packages that a source imports."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


def test_oracles_know_nothing_of_the_package():
    assert imports_of(Path(oracles.__file__).read_text()) == {"collections", "math", "numpy"}


def test_the_import_check_can_fail():
    assert "fourier_circuits" in imports_of("def f():\n    from fourier_circuits.task import ModularAddition")


def test_a_pure_cosine_has_one_coefficient():
    p, k = 5, 2
    grid = np.array([[np.cos(2 * pi * k * a / p) for b in range(p)] for a in range(p)])
    coefficients = oracles.transform(grid)
    assert_close(coefficients[3, 0], sqrt(p / 2) * sqrt(p))
    coefficients[3, 0] = 0
    assert np.abs(coefficients).max() < 1e-12


@pytest.mark.parametrize("p", [5, 6])
def test_powers_agree_with_the_loops(p):
    grid = np.random.default_rng(0).normal(size=(p, p))
    squares = oracles.transform(grid) ** 2
    frequency = [k for _, k, _ in oracles.basis_rows(p)]
    expected = [
        sum(
            squares[i, j]
            for i in range(p)
            for j in range(p)
            if (i, j) != (0, 0) and frequency[i] in (0, k) and frequency[j] in (0, k)
        )
        for k in range(1, p // 2 + 1)
    ]
    assert_close(oracles.power_per_frequency(grid), expected)


def test_projections_keep_what_they_should():
    p = 6
    a = np.arange(p)
    wave = np.cos(2 * pi * 2 * (a[:, None] + a) / p)
    other = np.cos(2 * pi * 2 * (a[:, None] - a) / p)
    assert_close(oracles.sum_part(wave + other + 1, [2]), wave)
    assert_close(oracles.sum_part(wave + other + 1, [2], sign=-1), other)
    assert_close(oracles.block_part(wave + other + 1, [2]), wave + other)
    assert np.abs(oracles.block_part(wave, [1, 3])).max() < 1e-12
    assert_close(oracles.number_part(np.cos(pi * a) + np.sin(2 * pi * a / p), [3]), np.cos(pi * a))


def test_scores_by_hand():
    logits = np.zeros((3, 3, 3))
    answers = np.zeros((3, 3), dtype=int)
    assert_close(oracles.cross_entropy(logits, answers), log(3))
    logits[0, 0, 1] = log(2)
    where = np.zeros((3, 3), dtype=bool)
    where[0, 0] = True
    assert_close(oracles.cross_entropy(logits, answers, where), log(4))
    assert oracles.accuracy(logits, answers, where) == 0
    assert_close(oracles.accuracy(logits, answers), 8 / 9)


def test_gini_by_hand():
    assert oracles.gini([2, 2, 2]) == 0
    assert_close(oracles.gini([0, 0, 0, 1]), 3 / 4)


def test_attention_is_causal_and_a_single_token_attends_to_itself():
    state = {
        "embed.W_E": np.eye(3),
        "pos_embed.W_pos": np.zeros((3, 3)),
        **{f"blocks.0.attn.W_{n}": np.eye(3)[None] for n in "QKVO"},
        "unembed.W_U": np.eye(3),
    }
    seen = oracles.forward(state, np.array([[0, 1, 1]]))
    assert_close(seen["logits"][0, 0], [2, 0, 0])
    pull = np.exp(1 / sqrt(3))
    assert_close(seen["0.attn_pattern"][0, 0, 2], [1 / (1 + 2 * pull), pull / (1 + 2 * pull), pull / (1 + 2 * pull)])
    twice = oracles.forward(state, np.array([[0, 1, 1]]), stream_counted=2)
    assert_close(twice["logits"][0, 0], [3, 0, 0])
