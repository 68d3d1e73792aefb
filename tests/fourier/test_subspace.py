import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typeguard import suppress_type_checks

from fourier_circuits.fourier.basis import fourier_basis
from fourier_circuits.fourier.subspace import (
    Subspace,
    block_subspace,
    constant_subspace,
    fraction_of_variance_explained,
    frequency_subspace,
    sum_subspace,
)
from fourier_circuits.task import ModularAddition
from tests import oracles
from tests.planted import planted_logits, polynomial_neuron, random_grid, random_mask
from tests.tolerance import assert_close

KINDS = ("sum", "block")


@st.composite
def cases(draw):
    """A modulus, one of the two kinds of directions, some frequencies, and noise."""
    p = draw(st.integers(3, 14))
    ks = draw(st.lists(st.integers(1, p // 2), min_size=1, max_size=p // 2, unique=True))
    return p, draw(st.sampled_from(KINDS)), ks, random_grid(p, 2, seed=draw(st.integers(0, 99)))


@given(cases())
def test_project_is_the_oracles_and_idempotent(case):
    p, kind, ks, grid = case
    subspace = frequency_subspace(fourier_basis(p), ks, kind)
    projected = subspace.project(grid)
    assert_close(projected, oracles.part(grid.numpy(), ks, kind))
    assert_close(subspace.project(projected), projected)


@given(cases())
def test_project_and_remove_make_the_whole(case):
    p, kind, ks, grid = case
    subspace = frequency_subspace(fourier_basis(p), ks, kind)
    assert_close(subspace.project(grid) + subspace.remove(grid), grid)
    assert subspace.project(subspace.remove(grid)).abs().max() < 1e-12


@given(cases(), st.integers(0, 9))
def test_removed_at_is_remove_at_those_pairs(case, seed):
    p, kind, ks, grid = case
    where = random_mask(p, seed)
    subspace = frequency_subspace(fourier_basis(p), ks, kind)
    assert_close(subspace.removed_at(grid, where), subspace.remove(grid)[where])


@given(st.integers(3, 14))
def test_sizes(p):
    basis = fourier_basis(p)
    for k in basis.frequencies:
        top = 2 * k == p
        assert len(sum_subspace(basis, [k])) == (1 if top else 2)
        assert len(block_subspace(basis, [k])) == (3 if top else 8)
    assert len(constant_subspace(basis)) == 1


@given(st.integers(4, 14))
def test_frequencies_and_the_constant_are_orthogonal(p):
    basis = fourier_basis(p)
    every = constant_subspace(basis)
    for kind in KINDS:
        total = sum((frequency_subspace(basis, [k], kind) for k in basis.frequencies), start=every)
        flat = total.directions.flatten(1)
        assert_close(flat @ flat.T, np.eye(len(total)))


@given(st.integers(3, 14))
def test_sum_directions_lie_in_the_block(p):
    basis = fourier_basis(p)
    for k in basis.frequencies:
        block = block_subspace(basis, [k])
        for direction in sum_subspace(basis, [k]).directions[..., None]:
            assert_close(block.project(direction), direction)
            assert_close(direction.norm(), 1.0)
            for other in set(basis.frequencies) - {k}:
                assert block_subspace(basis, [other]).project(direction).abs().max() < 1e-12


@pytest.mark.parametrize("p", [7, 8])
def test_sum_directions_are_functions_of_the_answer(p):
    for operation, sign in (("add", 1), ("subtract", -1)):
        task = ModularAddition(p, operation)
        for k in (1, p // 2):
            found = sum_subspace(fourier_basis(p), [k], task.answers)
            grid = random_grid(p, 1, seed=k)
            assert_close(found.project(grid), oracles.sum_part(grid.numpy(), [k], sign))
    add = sum_subspace(fourier_basis(p), [1], ModularAddition(p).answers).directions
    assert_close(add, sum_subspace(fourier_basis(p), [1]).directions)


def test_answers_beyond_p_are_refused():
    answers = torch.full((5, 5), 7)
    with pytest.raises(ValueError, match="answers below p=5, got 7"):
        sum_subspace(fourier_basis(5), [1], answers)


@pytest.mark.parametrize("trailing", [(), (0,), (2, 3)])
@pytest.mark.parametrize("kind", KINDS)
def test_grids_of_any_number_of_trailing_axes(kind, trailing):
    grid, where = random_grid(5, *trailing), random_mask(5)
    subspace = frequency_subspace(fourier_basis(5), [2], kind)
    expected = oracles.part(grid.numpy(), [2], kind)
    assert_close(subspace.project(grid), expected)
    assert_close(subspace.remove(grid), grid.numpy() - expected)
    assert_close(subspace.removed_at(grid, where), (grid.numpy() - expected)[where.numpy()])
    if grid.numel():
        explained = oracles.fraction_of_variance_explained(grid.numpy(), expected)
        assert_close(fraction_of_variance_explained(grid, subspace), explained)


def test_overlapping_subspaces_do_not_add():
    basis = fourier_basis(7)
    with pytest.raises(ValueError, match="must be orthonormal; do two subspaces overlap"):
        sum_subspace(basis, [2]) + block_subspace(basis, [2])
    with pytest.raises(ValueError, match="must be orthonormal"):
        Subspace(2 * constant_subspace(basis).directions)


def test_unknown_directions():
    with suppress_type_checks(), pytest.raises(ValueError, match="^directions must be 'sum' or 'block', got 'both'$"):
        frequency_subspace(fourier_basis(5), [1], "both")


@pytest.mark.parametrize("make", [sum_subspace, block_subspace])
def test_frequencies_are_checked(make):
    with pytest.raises(ValueError, match="frequencies must lie in 1..3 for p=7, got 4"):
        make(fourier_basis(7), [4])


@given(cases())
def test_fraction_of_variance_explained(case):
    p, kind, ks, grid = case
    found = fraction_of_variance_explained(grid, frequency_subspace(fourier_basis(p), ks, kind))
    assert ((found >= 0) & (found <= 1 + 1e-12)).all()
    assert_close(found, oracles.fraction_of_variance_explained(grid.numpy(), oracles.part(grid.numpy(), ks, kind)))


@given(cases(), st.floats(-50, 50), st.floats(0.1, 10))
def test_a_mean_and_a_factor_do_not_matter(case, mean, factor):
    p, kind, ks, grid = case
    by = frequency_subspace(fourier_basis(p), ks, kind)
    assert_close(
        fraction_of_variance_explained(factor * grid + mean, by),
        fraction_of_variance_explained(grid, by),
        relative=1e-8,
        because="a mean up to 500 times the spread is subtracted",
    )


@given(cases())
def test_the_constant_subspace_explains_no_variance(case):
    p, kind, ks, grid = case
    basis = fourier_basis(p)
    with_constant = constant_subspace(basis) + frequency_subspace(basis, ks, kind)
    assert_close(
        fraction_of_variance_explained(grid, with_constant),
        fraction_of_variance_explained(grid, frequency_subspace(basis, ks, kind)),
    )
    assert fraction_of_variance_explained(grid, constant_subspace(basis)).max() < 1e-12


def test_fraction_of_planted_neurons():
    basis = fourier_basis(8)
    neurons = torch.stack([polynomial_neuron(8, 4), polynomial_neuron(8, 1), torch.full((8, 8), 3.0).double()], dim=-1)
    assert_close(fraction_of_variance_explained(neurons, block_subspace(basis, [4])), [1.0, 0.0, 0.0])
    logits = planted_logits(8, {3: 1.0, 4: 2.0})
    assert_close(fraction_of_variance_explained(logits, sum_subspace(basis, [3, 4])), np.ones(8))


@pytest.mark.parametrize("p", [7, 12, 113])
@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e5 / 7, 0.0])
def test_a_constant_grid_has_no_explained_variance(p, value):
    grid = torch.full((p, p, 1), value, dtype=torch.float64)
    found = fraction_of_variance_explained(grid, block_subspace(fourier_basis(p), [1, 2, 3]))
    assert found.item() == pytest.approx(0, abs=1e-6)
