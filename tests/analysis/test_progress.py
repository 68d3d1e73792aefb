"""Progress measures against oracles, and phases on curves whose boundaries are known."""

import numpy as np
import pandas as pd
import pytest
import torch

from fourier_circuits.analysis.losses import cosine_cube, full_loss
from fourier_circuits.analysis.progress import Phases, ProgressMeasures, checkpoint_measures, gini, phases
from fourier_circuits.dynamics import progress_measures, telling_epochs
from fourier_circuits.model.config import ModelConfig
from fourier_circuits.model.read import read_activations, read_weights
from fourier_circuits.model.transformer import build_transformer
from fourier_circuits.task import ModularAddition
from tests import oracles, planted
from tests.tolerance import assert_close

CONFIG = ModelConfig(p=7, d_model=8, n_heads=2, d_head=4, d_mlp=12)
TASK = ModularAddition(7)

PAPER_CURVES = {
    # epoch: train, restricted (all), excluded 2-D (train), sum of squares. Read off the authors' own figures.
    0: (4.75, 4.75, 4.75, 1780), 200: (0.020, 4.60, 1.25, 3650), 700: (1.3e-4, 3.71, 0.458, 3630),
    1000: (6.2e-6, 3.34, 0.338, 3650), 1400: (4.3e-7, 3.02, 0.316, 3380), 2000: (3.4e-7, 2.63, 0.392, 3000),
    4000: (3.2e-7, 1.73, 0.95, 2690), 6000: (2.9e-7, 0.99, 2.57, 2510), 8000: (2.6e-7, 0.289, 6.87, 2300),
    9000: (2.4e-7, 0.048, 10.3, 2110), 9400: (2.2e-7, 6.3e-3, 11.6, 2000), 10000: (1.8e-7, 4.5e-5, 13.4, 1750),
    11000: (1.4e-7, 3.6e-7, 11.3, 1330), 12000: (1.2e-7, 2.4e-8, 9.0, 1150), 14000: (1.05e-7, 4.2e-8, 6.2, 995),
    20000: (1.02e-7, 5.1e-8, 5.9, 964), 39900: (9.94e-8, 5.55e-8, 5.96, 955.4),
}  # fmt: skip


def paper_curves() -> pd.DataFrame:
    epochs = np.arange(0, 40000, 100)
    columns = np.log(np.array(list(PAPER_CURVES.values())))
    curves = [np.exp(np.interp(epochs, list(PAPER_CURVES), column)) for column in columns.T]
    names = ["train_loss", "restricted_loss", "excluded_loss", "squares_total"]
    return pd.DataFrame(dict(zip(names, curves, strict=True)), index=epochs)


def measured():
    model = build_transformer(CONFIG, state=planted.random_state(CONFIG, scale=2.0), dtype=torch.float64)
    activations, weights = read_activations(model), read_weights(model)
    train = planted.random_mask(7)
    return checkpoint_measures(activations.logits, weights, TASK.answers, (1, 3), train), activations, weights, train


def test_losses_equal_the_oracles():
    row, activations, _, train = measured()
    logits, answers = activations.logits.numpy(), TASK.answers.numpy()
    restricted = oracles.ablated(logits, [1, 3], "sum", keep=True)
    excluded = oracles.ablated(logits, [1, 3], "sum", keep=False)
    assert_close(row["restricted_loss"], oracles.cross_entropy(restricted, answers))
    assert_close(row["restricted_train_loss"], oracles.cross_entropy(restricted, answers, train.numpy()))
    assert_close(row["restricted_test_loss"], oracles.cross_entropy(restricted, answers, ~train.numpy()))
    assert_close(row["excluded_loss"], oracles.cross_entropy(excluded, answers, train.numpy()))
    one = oracles.ablated(logits, [3], "sum", keep=False)
    assert_close(row["excluded_3_loss"], oracles.cross_entropy(one, answers, train.numpy()))
    assert_close(row["train_loss"], oracles.cross_entropy(logits, answers, train.numpy()))
    assert_close(row["test_loss"], oracles.cross_entropy(logits, answers, ~train.numpy()))


def test_three_dimensional_exclusion_removes_one_direction_of_the_whole_cube():
    row, activations, _, train = measured()
    cube = cosine_cube(7, 3)
    unit = cube / cube.norm()
    without = activations.logits - (activations.logits * unit).sum() * unit
    assert_close(row["excluded_3d_3_loss"], full_loss(without, TASK.answers, train))


def test_weights_measures():
    row, _, weights, _ = measured()
    state = planted.random_state(CONFIG, scale=2.0)
    assert_close(row["squares_total"], sum(t.square().sum().item() for t in state.values()))
    assert_close(row["squares_W_in"], state["blocks.0.mlp.W_in"].square().sum())
    rows = np.stack([row for _, _, row in oracles.basis_rows(7)])
    norms = np.linalg.norm(rows @ weights.embed.numpy(), axis=1)[1:]
    assert_close(row["gini_W_E"], oracles.gini(norms))


def test_gini_can_tell_equal_from_alone():
    assert_close(gini(torch.full((9,), 2.0)), 0.0)
    assert gini(torch.eye(50)[0]) == pytest.approx(0.98)
    assert gini(torch.zeros(4)) == 0.0


def test_phases_of_the_papers_own_run():
    found = phases(paper_curves())
    assert abs(found.memorisation_ends - 1400) <= 100
    assert abs(found.circuit_formation_ends - 9400) <= 100
    assert abs(found.cleanup_ends - 14000) <= 300


def test_phases_can_be_missing():
    curves = paper_curves()
    assert phases(curves.loc[:0]) == Phases(None, None, None)
    memorising = phases(curves.loc[:5000])
    assert memorising.memorisation_ends == 1400 and memorising.circuit_formation_ends is None
    forming = phases(curves.loc[:11000])
    assert forming.circuit_formation_ends == 9400 and forming.cleanup_ends is None
    assert str(forming) == "memorisation to 1,400, circuit formation to 9,400, cleanup not over"
    assert "excluded loss" in Phases.criterion


def test_progress_measures_of_models_need_freqs_and_train():
    model = build_transformer(CONFIG, seed=0)
    with pytest.raises(ValueError, match="pass freqs and train"):
        progress_measures([(0, model)])
    found = progress_measures([(0, model), (5, model)], freqs=[1], train=planted.random_mask(7))
    assert list(found.frame.index) == [0, 5] and found.freqs == (1,)
    with pytest.raises(ValueError, match="must lie in 1..3 for p=7"):
        progress_measures([(0, model)], freqs=[4], train=planted.random_mask(7))


def test_measures_out_of_order_are_refused():
    with pytest.raises(ValueError, match="ascending"):
        ProgressMeasures(pd.DataFrame({"x": [1.0, 2.0]}, index=[5, 3]), (1,))


def test_telling_epochs_are_dense_where_things_happen():
    curves = paper_curves().assign(test_loss=1.0, test_accuracy=0.5, restricted_accuracy=0.5)
    chosen = telling_epochs(curves, 24)
    assert chosen[0] == 0 and chosen[-1] == 39900 and len(chosen) <= 24
    assert sum(8000 <= epoch <= 12000 for epoch in chosen) > sum(20000 <= epoch <= 39000 for epoch in chosen)
