"""Measures while training: on the circuit built by hand, whose frequencies are known, against the oracles."""

import numpy as np
import pytest
import torch

from fourier_circuits.dynamics import LiveMeasures
from fourier_circuits.model.read import read_activations
from fourier_circuits.model.state import initial_state
from fourier_circuits.training.config import RunConfig
from fourier_circuits.training.run import Run
from fourier_circuits.training.train import Checkpoint
from tests import oracles, planted
from tests.tolerance import assert_close

CONFIG = RunConfig(model=planted.circuit_config(), epochs=1000, train_fraction=0.5)


def checkpoint(epoch: int, state: dict, train_loss: float = 0.01) -> Checkpoint:
    float32 = {name: tensor.float() for name, tensor in state.items()}
    nothing = torch.zeros(0)
    return Checkpoint(CONFIG, epoch, float32, (nothing, nothing), train_loss, 1.0, 0.5, 1.0)


def test_a_row_is_what_the_oracles_say(tmp_path):
    run = Run.create(tmp_path / "run", CONFIG)
    live, at = LiveMeasures(run, every=250), checkpoint(500, planted.circuit_state(gain=5.0))
    live.take(at)
    (row,) = run.live_measures().to_dict(orient="records")
    logits, answers = read_activations(at.model()).logits.numpy(), CONFIG.task().answers.numpy()
    kept, removed = (oracles.ablated(logits, [2, 5, 6], "sum", keep) for keep in (True, False))
    assert (row["frequencies"], row["train_loss"], row["test_loss"]) == (3, 0.01, 0.5)
    assert_close(row["restricted_loss"], oracles.cross_entropy(kept, answers))
    assert_close(row["excluded_loss"], oracles.cross_entropy(removed, answers, run.train_pairs.numpy()))
    assert_close(row["squares_total"], float(sum(np.square(t.double().numpy()).sum() for t in at.state.values())))


def test_epochs_that_are_not_due_and_networks_without_frequencies_have_no_row(tmp_path):
    run = Run.create(tmp_path / "run", CONFIG)
    live = LiveMeasures(run, every=250)
    assert live.take(checkpoint(0, initial_state(CONFIG.model, 0))) == "memorisation"
    live.take(checkpoint(25, planted.circuit_state()))
    assert run.live_measures() is None
    LiveMeasures(run, every=0).take(checkpoint(250, planted.circuit_state()))
    assert run.live_measures() is None
    with pytest.raises(ValueError, match="every 25 epochs or a multiple of that, got 30"):
        LiveMeasures(run, every=30)


def test_a_resumed_run_goes_on_with_its_rows_and_names_the_phase(tmp_path):
    run = Run.create(tmp_path / "run", CONFIG)
    first = LiveMeasures(run, every=250)
    weak = planted.circuit_state(gain=3.0)
    assert first.take(checkpoint(250, weak, train_loss=0.05)) == "memorisation"
    again = LiveMeasures(run, every=250)
    phase = again.take(checkpoint(500, planted.circuit_state(gain=60.0)))
    assert run.live_measures().index.tolist() == [250, 500]
    assert run.live_measures()["restricted_loss"].iloc[1] < 0.01 < run.live_measures()["restricted_loss"].iloc[0]
    assert phase == "cleanup"
