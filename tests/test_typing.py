"""The array types of the signatures are really checked in a test run.

Run with `--typeguard-packages=fourier_circuits`: without it every test of this file fails, as it should.
"""

import pytest
import torch
from typeguard import TypeCheckError, suppress_type_checks

from fourier_circuits.ablation import ablate
from fourier_circuits.analysis.losses import accuracy, full_loss, restricted_loss
from fourier_circuits.fourier.basis import fourier_basis
from fourier_circuits.fourier.grid import transform
from fourier_circuits.fourier.subspace import block_subspace
from fourier_circuits.task import ModularAddition
from tests.planted import circuit_model, random_grid

LOGITS, ANSWERS = random_grid(5, 5), ModularAddition(5).answers


def test_right_arguments_pass():
    assert full_loss(LOGITS, ANSWERS) > 0


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: full_loss(LOGITS.float(), ANSWERS), "logits"),
        (lambda: full_loss(LOGITS, ANSWERS.int()), "answers"),
        (lambda: full_loss(LOGITS, ANSWERS, torch.ones(5, 5)), "where"),
        (lambda: accuracy(LOGITS[:, 0], ANSWERS), "logits"),
        (lambda: transform(LOGITS.float(), fourier_basis(5)), "grid"),
        (lambda: block_subspace(fourier_basis(5), [1]).project(LOGITS.float()), "grid"),
        (lambda: fourier_basis("5"), "p"),
        (lambda: ablate(circuit_model(7, (1,)), 1, train=torch.ones(7, 7)), "train"),
    ],
    ids=["float32 logits", "int32 answers", "float mask", "a row", "float32 grid", "method", "not an array", "verb"],
)
def test_a_wrong_dtype_or_number_of_axes(call, named):
    with pytest.raises(TypeCheckError, match=f'argument "{named}"'):
        call()


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: full_loss(LOGITS[:4], ANSWERS), "logits"),
        (lambda: full_loss(LOGITS, ANSWERS[:4]), "answers"),
        (lambda: transform(LOGITS[:, :4], fourier_basis(5)), "grid"),
        (lambda: block_subspace(fourier_basis(5), [1]).project(LOGITS[:4]), "grid"),
    ],
    ids=["logits", "answers", "grid", "method"],
)
def test_a_grid_that_is_not_square(call, named):
    with pytest.raises(TypeCheckError, match=f'argument "{named}"'):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: full_loss(LOGITS, ModularAddition(7).answers),
        lambda: full_loss(LOGITS, ModularAddition(3).answers),
        lambda: full_loss(LOGITS, ANSWERS, torch.ones(3, 3, dtype=torch.bool)),
        lambda: accuracy(random_grid(7, 7), ANSWERS),
        lambda: restricted_loss(LOGITS, ModularAddition(3).answers, [1]),
    ],
    ids=["answers of p=7", "answers of p=3", "mask of p=3", "accuracy", "restricted loss"],
)
def test_sizes_that_disagree_between_two_arguments(call):
    with pytest.raises(TypeCheckError, match="argument"):
        call()


def test_without_the_checker_they_would_not_be_noticed():
    """The same call inside `suppress_type_checks`: what raises above is the checker and nothing else."""
    with suppress_type_checks():
        assert full_loss(LOGITS.float(), ANSWERS) > 0
