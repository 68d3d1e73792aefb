"""The bundled run: stored numbers equal recomputed ones, and the claims made about it."""

import math

import pandas as pd
import pytest

from fourier_circuits.ablation import ablate
from fourier_circuits.analysis.losses import excluded_loss_each
from fourier_circuits.analysis.progress import phases
from fourier_circuits.dynamics import progress_measures
from fourier_circuits.identification import RULES, key_frequencies
from fourier_circuits.model.config import ModelConfig
from fourier_circuits.model.read import read_activations
from fourier_circuits.training.config import RunConfig
from fourier_circuits.training.run import Run, bundled_run
from fourier_circuits.training.train import train
from tests.tolerance import assert_close

DRIFT = "float32 training on another machine rounds otherwise; 40 epochs amplify it"


@pytest.fixture(scope="module")
def run() -> Run:
    return Run.open(bundled_run())


def test_it_is_the_papers_setting_and_small_enough(run):
    assert run.config == RunConfig(model=ModelConfig.paper(), seed=0, epochs=25_000)
    size = sum(file.stat().st_size for file in run.path.rglob("*") if file.is_file())
    assert size <= 25e6
    assert len(run.epochs) <= 24 and run.epochs[0] == 0 and run.epochs[-1] >= 20_000
    assert list(run.measures().index) == list(range(0, run.epochs[-1] + 1, 100))
    assert len(run.losses()) == run.epochs[-1] + 1


def test_stored_measures_equal_recomputed_ones(run):
    stored = run.measures()
    freqs = key_frequencies(run.model())
    chosen = [run.epochs[0], run.epochs[len(run.epochs) // 2], run.epochs[-1]]
    models = ((epoch, run.model(epoch)) for epoch in chosen)
    fresh = progress_measures(models, freqs=freqs, train=run.train_pairs, task=run.task).frame
    pd.testing.assert_frame_equal(fresh, stored.loc[chosen], rtol=1e-6, check_dtype=False)


def test_measures_taken_while_it_trained_are_those_taken_afterwards(run):
    """From the epoch on at which the same frequencies stood out; before it nobody could know them."""
    live, stored = run.live_measures(), run.measures()
    assert live is not None and live.index[-1] == run.epochs[-1] and live.index[0] < 4000
    both = live[live["frequencies"] == len(key_frequencies(run.model()))].index.intersection(stored.index)
    assert len(both) > 40
    for name in ("restricted_loss", "excluded_loss", "squares_total"):
        pd.testing.assert_series_equal(live.loc[both, name], stored.loc[both, name], rtol=1e-6)


def test_all_rules_agree_on_the_trained_network(run):
    model = run.model()
    assert len({tuple(key_frequencies(model, by=rule)) for rule in RULES}) == 1


def test_removing_the_key_frequencies_destroys_it_and_keeping_only_them_improves_it(run):
    model = run.model()
    freqs = key_frequencies(model)
    without, only = ablate(model, freqs, train=run.train_pairs), ablate(model, freqs, keep=True)
    assert without.loss > 3 and without.train.loss > 3 and without.test.loss > 3
    assert only.loss < only.baseline_loss < 1e-6


def test_no_other_frequency_matters(run):
    activations = read_activations(run.model())
    answers = run.task.answers
    freqs = key_frequencies(activations)
    baseline = ablate(run.model(), freqs[0]).baseline_loss
    losses = excluded_loss_each(activations.logits, answers, range(1, 57))
    assert all(abs(loss / baseline - 1) < 0.1 for k, loss in losses.items() if k not in freqs)
    assert all(losses[k] > 100 * baseline for k in freqs)


def test_three_phases_and_measures_that_move_thousands_of_epochs_before_the_test_loss(run):
    measures = run.measures()
    found = phases(measures)
    assert None not in (found.memorisation_ends, found.circuit_formation_ends, found.cleanup_ends)
    assert found.memorisation_ends < found.circuit_formation_ends < found.cleanup_ends
    test = measures.index[measures["test_loss"] < 1][0]
    restricted = measures.index[measures["restricted_loss"] < 1][0]
    rising = measures.loc[found.memorisation_ends :, "excluded_loss"]
    excluded = rising.index[rising > 10 * rising.iloc[0]][0]
    assert test - restricted >= 2000 and test - excluded >= 2000


def test_its_first_epochs_come_out_again(run):
    """A short run's curve stays as it is, through the engine that made it."""
    config = RunConfig(model=ModelConfig.paper(), epochs=40)
    fresh = [loss for checkpoint in train(config) for loss in checkpoint.passed_losses]
    stored = run.losses()["train_loss"].iloc[:40]
    assert fresh[0] == fresh[1] and math.isclose(fresh[0], stored[0], rel_tol=1e-6)
    assert_close(fresh, stored, relative=1e-3, because=DRIFT)
