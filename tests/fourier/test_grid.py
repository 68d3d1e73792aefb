import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fourier_circuits.fourier.basis import fourier_basis
from fourier_circuits.fourier.grid import inverse, power_per_frequency, transform, variance
from tests import oracles
from tests.planted import polynomial_neuron, random_grid
from tests.tolerance import assert_close

moduli = st.integers(3, 16)
seeds = st.integers(0, 99)
trailing = st.sampled_from([(), (1,), (3,), (2, 3), (0,)])


@pytest.mark.parametrize("p", [3, 4, 5, 6])
def test_transform_is_the_double_sum(p):
    grid = random_grid(p, 2)
    assert_close(transform(grid, fourier_basis(p)), oracles.transform(grid.numpy()))


@given(p=moduli, seed=seeds, shape=trailing)
def test_inverse_undoes_transform(p, seed, shape):
    grid, basis = random_grid(p, *shape, seed=seed), fourier_basis(p)
    assert_close(inverse(transform(grid, basis), basis), grid)
    assert_close(transform(inverse(grid, basis), basis), grid)


@given(p=moduli, seed=seeds)
def test_parseval(p, seed):
    grid = random_grid(p, 3, seed=seed)
    coefficients = transform(grid, fourier_basis(p))
    assert_close(coefficients.square().sum(dim=(0, 1)), grid.square().sum(dim=(0, 1)))


@given(p=moduli, seed=seeds, shape=trailing)
def test_power_per_frequency_is_that_of_the_fft(p, seed, shape):
    grid = random_grid(p, *shape, seed=seed)
    assert_close(power_per_frequency(grid, fourier_basis(p)), oracles.power_per_frequency(grid.numpy()))


@pytest.mark.parametrize(("p", "k"), [(9, 4), (8, 4), (8, 1)])
def test_power_of_one_block_is_found_there_alone(p, k):
    grid = polynomial_neuron(p, k)
    powers = power_per_frequency(grid, fourier_basis(p))
    assert_close(powers[k - 1], variance(grid))
    assert_close(powers.sum(), variance(grid))


@given(p=moduli, seed=seeds, shift=st.integers(1, 15))
def test_shifting_a_changes_phases_not_powers(p, seed, shift):
    grid, basis = random_grid(p, seed=seed), fourier_basis(p)
    shifted = grid.roll(shift % p, dims=0)
    assert_close(power_per_frequency(shifted, basis), power_per_frequency(grid, basis))
    if shift % p:
        with pytest.raises(AssertionError):
            assert_close(transform(shifted, basis), transform(grid, basis))


@given(p=moduli, seed=seeds)
def test_variance_is_about_the_mean(p, seed):
    grid = random_grid(p, 3, seed=seed)
    assert_close(variance(grid), grid.numpy().var(axis=(0, 1)) * p**2)
    assert_close(
        variance(grid + 7), variance(grid), relative=1e-9, because="the mean is subtracted from larger numbers"
    )


def test_the_grid_given_is_not_changed():
    grid = random_grid(5, 2)
    before = grid.clone()
    power_per_frequency(grid, fourier_basis(5))
    variance(grid)
    transform(grid, fourier_basis(5))
    assert torch.equal(grid, before)
    assert np.array_equal(fourier_basis(5).vectors, fourier_basis(5).vectors)


def test_an_expanded_grid_is_taken_too():
    grid = random_grid(5)[..., None].expand(5, 5, 3)
    assert_close(transform(grid, fourier_basis(5))[..., 2], oracles.transform(grid[..., 2].numpy()))
