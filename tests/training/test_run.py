"""A run's folder: what is in it, and what survives."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import islice

import pandas as pd
import pytest
import torch

from fourier_circuits.model.formats import load_model, save_state
from fourier_circuits.training.record import record, resume_point
from fourier_circuits.training.run import Run, RunLockedError
from fourier_circuits.training.train import DivergedError, train
from tests.training.test_train import SMALL


def trained(path, config=SMALL, **options):
    run = Run.create(path, config)
    for _ in record(run, train(config), **{"checkpoint_every": 20, "save_every": 20, **options}):
        pass
    return run


def test_a_run_tells_what_it_is(tmp_path):
    run = trained(tmp_path / "run")
    again = Run.open(run.path)
    assert again.config == SMALL and again.epochs == [0, 20, 40, 60]
    assert again.about["versions"]["torch"] == torch.__version__
    losses = again.losses()
    assert list(losses.index) == list(range(61)) and losses["train_loss"].notna().all()
    assert losses["test_loss"].dropna().index.tolist() == [0, 20, 40, 60]
    assert int(again.train_pairs.sum()) == 60
    model = again.model(20)
    assert torch.equal(model.W_E, again.state(20)["embed.W_E"])
    assert torch.equal(load_model(run.path).W_E, again.state(60)["embed.W_E"])
    assert [epoch for epoch, _ in again.checkpoints()] == again.epochs


def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path):
    whole = trained(tmp_path / "whole")
    cut = Run.create(tmp_path / "cut", SMALL)
    stream = record(cut, train(SMALL), checkpoint_every=20, save_every=1000)
    list(islice(stream, 3))
    stream.close()
    start = resume_point(cut)
    assert start.epoch == 40 and len(start.squares) == 3
    for _ in record(cut, train(SMALL, resume_from=start), checkpoint_every=20, save_every=20):
        pass
    assert all(torch.equal(t, cut.state(60)[name]) for name, t in whole.state(60).items())
    pd.testing.assert_frame_equal(cut.losses(), whole.losses(), check_exact=True)


def test_losses_beyond_the_resume_point_are_forgotten(tmp_path):
    whole = trained(tmp_path / "whole")
    cut = trained(tmp_path / "cut")
    for file in (cut.path / "resume").glob("*60*"):
        file.unlink()
    start = resume_point(cut)
    assert start.epoch == 40
    for _ in record(cut, train(SMALL, resume_from=start), checkpoint_every=20, save_every=20):
        pass
    pd.testing.assert_frame_equal(cut.losses(), whole.losses(), check_exact=True)


def test_a_broken_resume_file_is_passed_over_with_a_warning(tmp_path):
    run = trained(tmp_path / "run")
    newest = sorted((run.path / "resume").glob("*.safetensors"))[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="is not whole"):
        assert resume_point(run).epoch == 40
    for file in (run.path / "resume").glob("*.safetensors"):
        file.write_bytes(b"")
    with pytest.warns(UserWarning), pytest.raises(FileNotFoundError, match="nothing whole to resume from"):
        resume_point(run)


def test_nothing_to_resume_is_said(tmp_path):
    run = Run.create(tmp_path / "run", SMALL)
    with pytest.raises(FileNotFoundError, match="nothing to resume from"):
        resume_point(run)


def test_a_diverged_run_keeps_everything_until_then(tmp_path):
    config = replace(SMALL, learning_rate=1e30)
    run = Run.create(tmp_path / "run", config)
    with pytest.raises(DivergedError):
        list(record(run, train(config), checkpoint_every=20))
    assert run.epochs == [0] and resume_point(run).epoch == 0 and len(run.losses()) == 1


def test_only_one_process_trains_in_a_folder(tmp_path):
    run = Run.create(tmp_path / "run", SMALL)
    code = f"""
from filelock import FileLock
import time
lock = FileLock({str(run.path / ".lock")!r})
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunLockedError, match="is being trained by another process"):
            run.locked()
        os.kill(holder.pid, signal.SIGKILL)
    run.locked().release()


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="exists already"):
        Run.create(tmp_path, SMALL)
    assert (tmp_path / "note.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        Run.create(tmp_path / "file" / "run", SMALL)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"run": {"epochs": "many"}}', '{"run": {"unknown": 1}}', "{}"])
def test_a_foreign_config_is_one_sentence(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match="is not a run's configuration"):
        Run.open(tmp_path)


def test_missing_runs_checkpoints_and_tables_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="it does not exist"):
        Run.open(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"it has no config.json"):
        Run.open(tmp_path)
    run = Run.create(tmp_path / "run", SMALL)
    with pytest.raises(FileNotFoundError, match="has no checkpoints"):
        run.model()
    with pytest.raises(FileNotFoundError, match="has no losses.csv"):
        run.losses()
    for epoch in (100, 200, 300):
        save_state(run.path / "checkpoints" / f"epoch-{epoch:06d}.safetensors", {}, SMALL.model)
    with pytest.raises(FileNotFoundError, match="no checkpoint at epoch 150; nearest are 100 and 200"):
        run.model(150)
    run.thin([200])
    assert run.epochs == [200]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    from fourier_circuits.model import formats

    path = tmp_path / "file"
    formats.write_whole(path, b"old")

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(formats.os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        formats.write_whole(path, b"new")
    assert path.read_bytes() == b"old" and [f.name for f in tmp_path.iterdir()] == ["file"]


def test_config_json_has_every_hyper_parameter(tmp_path):
    run = trained(tmp_path / "run")
    stored = json.loads((run.path / "config.json").read_text())
    assert stored["run"]["betas"] == [0.9, 0.98] and stored["run"]["model"]["d_mlp"] == 32
    assert {"engine", "versions", "git_commit"} <= set(stored)


def test_thinning_and_measuring_again_loses_no_measures(tmp_path):
    run = trained(tmp_path / "run")
    run.save_measures(pd.DataFrame({"x": [1.0, 2.0, 3.0]}, index=pd.Index([0, 20, 40], name="epoch")))
    run.thin([40])
    assert run.epochs == [40]
    assert not (run.path / "resume").exists()
    run.save_measures(pd.DataFrame({"x": [4.0]}, index=pd.Index([40], name="epoch")))
    assert run.measures()["x"].tolist() == [1.0, 2.0, 4.0]
    run.save_measures(pd.DataFrame({"y": [5.0]}, index=pd.Index([40], name="epoch")))
    assert run.measures()["y"].tolist() == [5.0]
