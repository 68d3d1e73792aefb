"""The command line as a user types it: output, files, exit codes, and one sentence for bad input."""

import io
import json
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from fourier_circuits.cli import app, main
from fourier_circuits.model.config import ModelConfig
from fourier_circuits.model.formats import save_state
from fourier_circuits.training.record import resume_point
from fourier_circuits.training.run import Run
from tests import planted

RUNNER = CliRunner()


def command(*arguments: object) -> str:
    """What a command prints; it must succeed."""
    result = RUNNER.invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: object) -> str:
    """The one sentence on standard error of a command that must end with exit code 2."""
    error = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(error), redirect_stdout(io.StringIO()):
        patch.setattr(sys, "argv", ["fourier-circuits", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
    assert stop.value.code == 2
    assert "Traceback" not in error.getvalue() and "error" in error.getvalue().lower()
    return error.getvalue()


def test_exit_code_and_message_of_the_real_command(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "fourier_circuits", "analyse", str(tmp_path / "nowhere")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == f"error: no checkpoint at {str(tmp_path / 'nowhere')!r}: give a run directory or a checkpoint file\n"
    )


@pytest.fixture(scope="module")
def circuit(tmp_path_factory) -> Path:
    """A checkpoint of the circuit built by hand, frequencies 2, 5 and 6 of p=13."""
    path = tmp_path_factory.mktemp("circuit") / "circuit.safetensors"
    state = {name: tensor.float() for name, tensor in planted.circuit_state().items()}
    save_state(path, state, planted.circuit_config())
    return path


def test_ablate_prints_what_it_did(circuit):
    text = command("ablate", circuit, "--freqs", "2,5")
    assert "remove 2, 5 (sum directions) at logits" in text and "accuracy 100.00% ->" in text
    kept = json.loads(command("ablate", circuit, "--freqs", "2", "--at", "attn_out", "--keep", "--json"))
    assert kept["directions"] == "block" and kept["keep"] is True and kept["loss"] > kept["baseline_loss"]
    each = json.loads(command("ablate", circuit, "--freqs", "2,5", "--each", "--json"))
    assert [row["freqs"] for row in each["each"]] == [2, 5]


def test_ablate_takes_the_key_frequencies_by_name(circuit):
    text = command("analyse", circuit, "--json")
    found = json.loads(text)
    assert found["by_rule"]["embedding"]["frequencies"] == [2, 5, 6]
    assert found["losses"]["accuracy"] == 1.0 and len(found["heads"]) == 3
    assert "by excluded_loss" in command("analyse", circuit)


def test_train_measure_and_resume_make_a_run(tmp_path):
    out = tmp_path / "run"
    sizes = ["--p", 7, "--epochs", 100, "--train-fraction", 0.5]
    command("train", "--out", out, *sizes)
    run = Run.open(out)
    assert run.epochs == [0, 100] and run.config.model == ModelConfig.paper(p=7)
    assert "exists already" in refused("train", "--out", out, *sizes)
    assert "leave epochs out" in refused("train", "--out", out, "--resume", "--epochs", 200)
    text = command("analyse", out, "--json")
    assert set(json.loads(text)["losses"]) >= {"train_loss", "test_loss"}


def test_several_seeds_side_by_side(tmp_path):
    sizes = ["--p", 7, "--epochs", 50, "--train-fraction", 0.5]
    lines = command("train", "--out", tmp_path / "many", "--seeds", "0:2", "--log", "jsonl", *sizes).splitlines()
    rows = [json.loads(line) for line in lines if line.startswith("{")]
    assert [(row["seed"], row["epoch"]) for row in rows] == [(s, e) for e in (0, 25, 50) for s in (0, 1)]
    command("train", "--out", tmp_path / "one", "--seed", 1, "--log", "none", *sizes)
    many, one = Run.open(tmp_path / "many" / "seed-1"), Run.open(tmp_path / "one")
    assert many.config == one.config
    assert abs(many.losses()["train_loss"] - one.losses()["train_loss"]).max() < 1e-4
    assert "--seeds must be a range such as 0:8" in refused("train", "--out", tmp_path / "x", "--seeds", "a")
    assert "not both" in refused("train", "--out", tmp_path / "x", "--seeds", "0:2", "--seed", 1)
    assert "--log must be" in refused("train", "--out", tmp_path / "x", "--log", "tweets")
    assert "is finished at epoch 50: nothing to go on with" in refused("train", "--out", tmp_path / "one", "--resume")


def test_a_cut_off_training_goes_on_from_the_command_line(tmp_path):
    sizes = ["--p", "7", "--train-fraction", "0.5"]
    arguments = ["train", "--out", str(tmp_path / "run"), "--epochs", "100000", *sizes]
    with subprocess.Popen([sys.executable, "-m", "fourier_circuits", *arguments]) as child:
        while not (tmp_path / "run" / "resume" / "epoch-000500.safetensors").exists():
            time.sleep(0.1)
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=60) == 130
    run = Run.open(tmp_path / "run")
    losses = run.losses()
    assert 500 <= len(losses) - 1 < 100_000
    assert resume_point(run).epoch == len(losses) - 1


def test_a_full_disk_ends_a_training_in_one_sentence_and_it_goes_on_bit_for_bit(tmp_path, monkeypatch):
    sizes = ["--p", 7, "--epochs", 1000, "--train-fraction", 0.5, "--log", "none"]
    command("train", "--out", tmp_path / "whole", *sizes)
    cut = tmp_path / "cut"
    with monkeypatch.context() as patch:

        def full(handle):
            if (cut / "resume" / "epoch-000500.safetensors").exists():
                raise OSError(28, "No space left on device")

        patch.setattr("fourier_circuits.model.formats.os.fsync", full)
        message = refused("train", "--out", cut, *sizes)
    assert "cannot write, No space left on device" in message and str(cut) in message
    assert resume_point(Run.open(cut)).epoch == 500 and not list(cut.rglob("*.tmp"))
    command("train", "--out", cut, "--resume", "--log", "none")
    whole, again = Run.open(tmp_path / "whole"), Run.open(cut)
    assert all(torch.equal(tensor, again.state(1000)[name]) for name, tensor in whole.state(1000).items())
    assert whole.losses().equals(again.losses())


def test_a_folder_that_cannot_be_written_is_one_sentence():
    assert "cannot write" in refused("train", "--out", "/sys/fourier-circuits", "--p", 7, "--epochs", 10)


def test_the_schedule_of_a_run_holds_when_it_is_resumed(tmp_path, monkeypatch):
    from fourier_circuits.training import train as loop

    sizes = ["--p", 7, "--epochs", 1500, "--train-fraction", 0.5, "--log", "none"]
    times = ["--until", "grokked", "--checkpoint-every", 250, "--measure-every", 0]
    monkeypatch.setattr(loop, "has_grokked", lambda checkpoint: checkpoint.epoch >= 750)
    out = tmp_path / "run"
    command("train", "--out", out, *sizes, *times)
    run = Run.open(out)
    assert run.epochs == [0, 250, 500, 750] and resume_point(run).stopped == "grokked"
    assert "is grokked at epoch 750" in refused("train", "--out", out, "--resume")
    for file in (out / "resume").glob("*750*"):
        file.unlink()
    command("train", "--out", out, "--resume", "--log", "none")
    assert Run.open(out).epochs == [0, 250, 500, 750]
    command("train", "--out", out, "--resume", "--until", "finished", "--log", "none")
    assert Run.open(out).epochs == [0, 250, 500, 750, 1000, 1250, 1500]
    assert run.live_measures() is None
    assert "until must be" in refused("train", "--out", tmp_path / "x", "--until", "bored")
    assert "checkpoint_every must be" in refused("train", "--out", tmp_path / "x", "--checkpoint-every", 0)


def test_modulus_that_disagrees_with_the_model(circuit):
    message = refused("ablate", circuit, "--freqs", 2, "--p", 11)
    assert "the task (p=11" in message and "does not fit the model" in message


@pytest.mark.parametrize(
    ("freqs", "message"),
    [
        ("7", "frequencies must lie in 1..6 for p=13, got 7"),
        ("0", "frequencies must lie in 1..6 for p=13, got 0"),
        ("2,2", "each frequency may be given once, got [2, 2]"),
        ("two", "--freqs must be integers separated by commas"),
        ("1.5", "--freqs must be integers separated by commas"),
    ],
)
def test_bad_frequencies(circuit, freqs, message):
    assert message in refused("ablate", circuit, "--freqs", freqs)


def test_unknown_site_lists_the_known_ones(circuit):
    message = refused("ablate", circuit, "--freqs", 2, "--at", "brain")
    assert "unknown site 'brain'; known sites are embed, attn_pattern, attn_out" in message
    assert "directions must be 'sum' or 'block'" in refused("ablate", circuit, "--freqs", 2, "--directions", "all")


def test_bad_checkpoints(tmp_path):
    assert "no checkpoint at" in refused("analyse", tmp_path / "nowhere.pth")
    (tmp_path / "text.pth").write_text("hello")
    assert "is not a" in refused("analyse", tmp_path / "text.pth")
    assert "is not a run" in refused("analyse", tmp_path)


def test_a_pickle_with_code_is_refused_and_did_not_run(tmp_path):
    trace = tmp_path / "ran"

    class Code:
        def __reduce__(self):
            return (Path.touch, (trace,))

    torch.save({"model": Code()}, tmp_path / "evil.pth")
    assert "was refused" in refused("analyse", tmp_path / "evil.pth")
    assert not trace.exists()


def test_output_folder_of_somebody_else_is_refused_before_any_work(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    message = refused("reproduce", "--out", tmp_path)
    assert "exists and holds other files" in message and (tmp_path / "thesis.tex").read_text() == "mine"
    assert "is a file" in refused("reproduce", "--out", tmp_path / "thesis.tex")
    assert "error" in refused("reproduce", "--out", "/proc/nothing/here")
    assert "no run at" in refused("reproduce", tmp_path / "nowhere")


def test_a_network_that_has_not_grokked_has_nothing_to_reproduce(tmp_path):
    command("train", "--out", tmp_path / "run", "--p", 31, "--epochs", 30)
    assert "it has not grokked" in refused("reproduce", tmp_path / "run")


def test_two_layers_say_what_still_works(tmp_path):
    command("train", "--out", tmp_path / "run", "--p", 5, "--layers", 2, "--epochs", 30, "--train-fraction", 0.5)
    message = refused("reproduce", tmp_path / "run")
    assert "one layer" in message and "use ablate, key_frequencies and residual_table" in message
    assert "at mlp_post of layer 1" in command("ablate", tmp_path / "run", "--freqs", 1, "--at", "mlp_post")


def test_unknown_presets_and_missing_options():
    assert "unknown preset" in refused("train", "--out", "x", "--preset", "mine")
    assert "Missing option" in refused("train")
    assert not Path("x").exists()


def test_a_checkpoint_of_a_run_that_is_broken(tmp_path):
    command("train", "--out", tmp_path / "run", "--p", 5, "--epochs", 30, "--train-fraction", 0.5)
    file = tmp_path / "run" / "checkpoints" / "epoch-000030.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    assert "is not a whole safetensors checkpoint" in refused("analyse", tmp_path / "run")
    assert "nearest are 0 and 30" in refused("analyse", tmp_path / "run", "--epoch", 7)
    file.unlink()
    assert "p = 5" in command("analyse", tmp_path / "run", "--epoch", 0)
