import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fourier_circuits.fourier.basis import checked_frequencies, fourier_basis
from tests import oracles
from tests.tolerance import assert_close

moduli = st.integers(3, 40)


@given(p=moduli)
def test_orthonormal(p):
    vectors = fourier_basis(p).vectors
    assert vectors.dtype == torch.float64
    assert_close(vectors @ vectors.T, np.eye(p))


@given(p=moduli)
def test_every_component_is_the_formula(p):
    basis, rows = fourier_basis(p), oracles.basis_rows(p)
    assert basis.labels == tuple(label for label, _, _ in rows)
    assert basis.frequency == tuple(k for _, k, _ in rows)
    assert_close(basis.vectors, np.array([row for _, _, row in rows]))
    assert (basis.p, list(basis.frequencies)) == (p, list(range(1, p // 2 + 1)))


@pytest.mark.parametrize(("p", "top"), [(7, ["cos 3", "sin 3"]), (8, ["cos 4"])])
def test_the_top_frequency_of_odd_and_even_p(p, top):
    basis = fourier_basis(p)
    assert [basis.labels[i] for i in basis.components(p // 2)] == top
    assert [basis.labels[i] for i in basis.components(1)] == ["cos 1", "sin 1"]
    assert basis.components(0) == [0]


def test_even_top_component_alternates():
    assert_close(fourier_basis(6).vectors[-1], np.array([1, -1, 1, -1, 1, -1]) / 6**0.5)


@pytest.mark.parametrize("p", [7, 8])
def test_summed_per_frequency(p):
    basis = fourier_basis(p)
    values = torch.arange(1.0, 2 * p + 1, dtype=torch.float64).view(p, 2)
    expected = [sum(values[i] for i in range(p) if basis.frequency[i] == k).tolist() for k in range(1, p // 2 + 1)]
    assert_close(basis.summed_per_frequency(values), expected)


@pytest.mark.parametrize("p", [2, 0, -5])
def test_p_too_small(p):
    with pytest.raises(ValueError, match=f"^p must be an integer of at least 3, got {p}$"):
        fourier_basis(p)


@pytest.mark.parametrize(
    ("given_", "expected"),
    [(14, (14,)), ([14, 35], (14, 35)), ((35, 14), (35, 14)), (range(1, 4), (1, 2, 3)), (iter([56]), (56,)),
     (np.array([1, 2]), (1, 2)), ([np.int64(3)], (3,)), (torch.tensor([4, 5]), (4, 5))],
)  # fmt: skip
def test_checked_frequencies_accepts(given_, expected):
    found = checked_frequencies(given_, p=113)
    assert found == expected
    assert all(type(k) is int for k in found)


@pytest.mark.parametrize(
    ("given_", "error", "message"),
    [
        ([57], ValueError, "frequencies must lie in 1..56 for p=113, got 57"),
        ([14, 0], ValueError, "frequencies must lie in 1..56 for p=113, got 0"),
        (-3, ValueError, "frequencies must lie in 1..56 for p=113, got -3"),
        ([14, 35, 14], ValueError, "each frequency may be given once, got [14, 35, 14]"),
        ([], ValueError, "expected at least one frequency in 1..56 for p=113, got none"),
        ([1.5], TypeError, "frequencies must be integers in 1..56 for p=113, got [1.5]"),
        ([2.0], TypeError, "frequencies must be integers in 1..56 for p=113, got [2.0]"),
        (["14"], TypeError, "frequencies must be integers in 1..56 for p=113, got ['14']"),
        ([True], TypeError, "frequencies must be integers in 1..56 for p=113, got [True]"),
        (True, TypeError, "frequencies must be integers in 1..56 for p=113, got [True]"),
        ([None], TypeError, "frequencies must be integers in 1..56 for p=113, got [None]"),
    ],
)
def test_checked_frequencies_refuses(given_, error, message):
    with pytest.raises(error) as raised:
        checked_frequencies(given_, p=113)
    assert str(raised.value) == message


def test_the_top_frequency_is_accepted():
    assert checked_frequencies([4], p=8) == checked_frequencies([4], p=9) == (4,)
