"""A training that is killed at random moments ends with the weights of one that was not."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fourier_circuits.training.record import resume_point
from fourier_circuits.training.run import Run

ARGUMENTS = ["--p", "11", "--epochs", "3000", "--train-fraction", "0.5"]


def start(folder: Path, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "fourier_circuits", "train", "--log", "jsonl", "--out", str(folder), *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)


def finish(folder: Path, *more: str) -> None:
    with start(folder, *more) as child:
        child.communicate(timeout=300)
        assert child.returncode == 0


def campaign(folder: Path, kills: int, seed: int) -> int:
    """Kill -9 a training so many times at random moments, let it finish, compare; returns how often it was alive."""
    chance = random.Random(seed)
    finish(folder / "whole", *ARGUMENTS)
    whole, hits = Run.open(folder / "whole"), 0
    for kill in range(kills):
        with start(folder / "cut", *(["--resume"] if kill else ARGUMENTS)) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(chance.uniform(0, 1.0))
            hits += child.poll() is None
            child.kill()
    cut = Run.open(folder / "cut")
    if resume_point(cut).epoch < 3000:
        finish(folder / "cut", "--resume")
    for epoch in whole.epochs:
        for name, tensor in whole.state(epoch).items():
            assert torch.equal(tensor, cut.state(epoch)[name]), (epoch, name)
    assert whole.losses().equals(cut.losses())
    assert not list(cut.path.rglob("*.tmp"))
    return hits


def test_two_kills(tmp_path):
    assert campaign(tmp_path, kills=2, seed=0) >= 1


@pytest.mark.slow
def test_fifty_kills(tmp_path):
    hits = sum(campaign(tmp_path / str(seed), kills=5, seed=seed) for seed in range(10))
    assert hits >= 25, "most kills must hit a training that is still under way"
