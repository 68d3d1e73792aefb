"""The loop, its two engines and many runs at once."""

import math
import shutil
from dataclasses import replace

import pytest
import torch

from fourier_circuits.model.config import ModelConfig
from fourier_circuits.model.state import initial_state
from fourier_circuits.training.config import Hardware, RunConfig
from fourier_circuits.training.engines import FactoredEngine, PlainEngine, Stack
from fourier_circuits.training.train import DivergedError, choose_engine, has_grokked, train, train_many
from tests.tolerance import assert_close

SMALL = RunConfig(
    model=ModelConfig(p=11, d_model=16, n_heads=2, d_head=8, d_mlp=32), epochs=60, train_fraction=0.5, log_every=20
)
DRIFT = "float32 rounding grows along a training run; both engines are exact in float64"


def last(config, **options):
    return list(train(config, **options))[-1]


def textbook(config: RunConfig, epochs: int) -> list[float]:
    """The loop as anyone would write it, from PyTorch's own pieces; the loss before every update."""
    from fourier_circuits.model.transformer import build_transformer

    model = build_transformer(config.model, seed=config.seed)
    task = config.task()
    mask = task.split(config.train_fraction, config.seed)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(step / config.warmup, 1))
    losses = []
    for _ in range(epochs):
        logits = model(task.tokens[mask])[:, -1].double()
        loss = torch.nn.functional.cross_entropy(logits, task.answers[mask])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("engine", ["factored", "plain"])
def test_losses_are_those_of_the_textbook_loop(engine):
    passed = [loss for checkpoint in train(SMALL, engine=engine) for loss in checkpoint.passed_losses]
    assert_close(passed, textbook(SMALL, 60), relative=1e-4, because=DRIFT)
    assert passed[0] == passed[1], "the first update of the warm-up has learning rate zero"


def test_curves_of_both_engines_agree_over_300_epochs():
    config = replace(SMALL, epochs=300, log_every=100)
    curves = [
        [loss for checkpoint in train(config, engine=engine) for loss in checkpoint.passed_losses]
        for engine in ("factored", "plain")
    ]
    assert len(curves[0]) == 300 and curves[0][-1] < 0.2 * curves[0][0]
    assert_close(*curves, relative=1e-3, because=DRIFT)


def test_compiling_changes_nothing_but_time():
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler")
    compiled, plain = last(SMALL, hardware=Hardware(compiled=True)), last(SMALL)
    for name, tensor in plain.state.items():
        assert_close(compiled.state[name], tensor, relative=1e-3, because=DRIFT)


def test_without_a_compiler_it_trains_as_it_is(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.warns(UserWarning, match=r"trains without compiling: no C\+\+ compiler"):
        assert last(SMALL, hardware=Hardware(compiled=True)).stopped == "finished"


def test_with_a_compiler_that_fails_it_trains_as_it_is(monkeypatch):
    def broken(*_):
        raise RuntimeError("collect2: ld returned 1\n a stack trace follows")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: broken)
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/c++")
    with pytest.warns(UserWarning, match="trains without compiling: collect2: ld returned 1$"):
        assert last(SMALL, hardware=Hardware(compiled=True)).stopped == "finished"


def test_hardware_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="device must be 'cpu' or 'cuda', got 'tpu'"):
        Hardware(device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device 'cuda' needs an NVIDIA GPU"):
            Hardware(device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_graph_on_a_gpu_trains_as_the_cpu_does():
    on_gpu, on_cpu = last(SMALL, hardware=Hardware("cuda")), last(SMALL)
    assert_close(on_gpu.passed_losses, on_cpu.passed_losses, relative=1e-3, because=DRIFT)
    for name, tensor in on_cpu.state.items():
        assert_close(on_gpu.state[name], tensor, relative=1e-2, because=DRIFT)


@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("operation", ["add", "subtract"])
def test_engines_agree_on_loss_and_gradient(biases, operation):
    config = replace(SMALL, model=replace(SMALL.model, mlp_biases=biases), operation=operation)
    gradients = []
    for kind in (FactoredEngine, PlainEngine):
        states = [initial_state(config.model, seed) for seed in (0, 1)]
        stack = Stack([config, config], states)
        engine = kind(stack, [config, config], config.task(), [config.task().split(0.5, seed) for seed in (0, 1)])
        losses = engine.backward()
        gradients.append((losses, stack.gradient.clone()))
    for ours, theirs in zip(*gradients, strict=True):
        assert_close(ours, theirs, dtype=torch.float32)


def test_checkpoints_come_at_zero_at_every_log_point_and_at_the_end():
    config = replace(SMALL, epochs=50)
    checkpoints = list(train(config))
    assert [c.epoch for c in checkpoints] == [0, 20, 40, 50]
    assert [len(c.passed_losses) for c in checkpoints] == [0, 20, 20, 10]
    assert [c.stopped for c in checkpoints] == [None, None, None, "finished"]
    assert_close(checkpoints[1].train_loss, checkpoints[2].passed_losses[0], dtype=torch.float32)


def test_biases_other_than_the_mlps_stay_zero():
    state = last(SMALL).state
    for name, tensor in state.items():
        if ".b_" in name and "mlp" not in name:
            assert not tensor.any(), name
    assert state["blocks.0.mlp.b_in"].any()


def test_resuming_is_bit_for_bit():
    whole = last(SMALL)
    half = next(c for c in train(SMALL) if c.epoch == 40)
    resumed = last(SMALL, resume_from=half)
    assert all(torch.equal(whole.state[name], resumed.state[name]) for name in whole.state)
    assert whole.test_loss == resumed.test_loss


@pytest.mark.parametrize("engine", ["factored", "plain"])
def test_many_runs_are_the_runs_one_by_one(engine):
    configs = [
        replace(SMALL, seed=0), replace(SMALL, seed=3), replace(SMALL, seed=3, weight_decay=0.1),
        replace(SMALL, seed=3, train_fraction=0.3), replace(SMALL, seed=3, train_fraction=1.0),
    ]  # fmt: skip
    final = list(train_many(configs, engine=engine))[-1]
    for config, checkpoint in zip(configs, final, strict=True):
        alone = last(config, engine=engine)
        assert checkpoint.config == config
        for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy"):
            ours, expected = getattr(checkpoint, name), getattr(alone, name)
            assert ours == pytest.approx(expected, rel=1e-3, nan_ok=True), name
        assert math.isnan(checkpoint.test_loss) == (config.train_fraction == 1)
        for name, tensor in alone.state.items():
            assert_close(checkpoint.state[name], tensor, relative=1e-3, because=DRIFT)


def test_a_diverged_run_leaves_the_batch_and_the_others_go_on():
    configs = [replace(SMALL, learning_rate=1e-3), replace(SMALL, learning_rate=1e30)]
    steps = list(train_many(configs))
    ended = [checkpoint for step in steps for checkpoint in step if checkpoint.stopped]
    assert ended[0].config.learning_rate == 1e30 and ended[0].stopped.startswith("diverged at epoch")
    assert ended[1].stopped == "finished" and ended[1].epoch == 60
    alone = last(configs[0])
    assert_close(ended[1].train_loss, alone.train_loss, relative=1e-3, because=DRIFT)


def test_divergence_is_an_error_that_names_epoch_and_cause():
    with pytest.raises(DivergedError, match=r"diverged at epoch \d+.*learning rate 1e\+30.*up to epoch 0 is kept"):
        list(train(replace(SMALL, learning_rate=1e30)))


def test_until_grokked_stops_where_the_criterion_is_met(monkeypatch):
    from fourier_circuits.training import train as loop

    monkeypatch.setattr(loop, "has_grokked", lambda checkpoint: checkpoint.epoch >= 40)
    assert (last(SMALL).epoch, last(SMALL).stopped) == (60, "finished")
    stopped = last(SMALL, until="grokked")
    assert (stopped.epoch, stopped.stopped) == (40, "grokked")


def test_grokked_means_every_test_pair_right_and_weights_that_have_settled():
    checkpoint = next(train(replace(SMALL, log_every=100)))
    settled = replace(checkpoint, test_accuracy=1.0, squares=(104.0, 103.0, 102.0, 101.0, 100.5, 100.0))
    assert has_grokked(settled)
    assert not has_grokked(replace(settled, squares=(106.0, *settled.squares[1:])))
    assert not has_grokked(replace(settled, squares=settled.squares[1:]))
    assert not has_grokked(replace(settled, test_accuracy=0.999))
    assert not has_grokked(replace(settled, test_accuracy=float("nan")))


def test_the_last_500_epochs_of_squared_weights_come_along():
    checkpoints = list(train(replace(SMALL, epochs=800, log_every=100)))
    totals = [sum(t.double().square().sum().item() for t in c.state.values()) for c in checkpoints]
    assert [len(c.squares) for c in checkpoints] == [1, 2, 3, 4, 5, 6, 6, 6, 6]
    assert_close(list(checkpoints[-1].squares), totals[-6:], dtype=torch.float32)
    half = checkpoints[4]
    resumed = last(replace(SMALL, epochs=800, log_every=100), resume_from=half)
    assert resumed.squares == checkpoints[-1].squares


def test_float32_losses_round_small_losses_to_zero():
    from fourier_circuits.model.factored import Batch, cross_entropy

    pair = torch.zeros(11, 11, dtype=torch.bool)
    pair[1, 2] = True
    batch, logits = Batch.of_pairs(SMALL.task(), [pair]), torch.zeros(1, 1, 11)
    logits[..., 3] = 20.0
    assert cross_entropy(logits, batch, torch.float32).item() == 0.0
    assert cross_entropy(logits, batch).item() == pytest.approx(2.06e-8, rel=1e-2)


def test_engine_choice():
    assert choose_engine(SMALL) == "factored"
    deep = replace(SMALL, model=replace(SMALL.model, n_layers=2))
    assert choose_engine(deep) == "plain"
    assert last(replace(deep, epochs=20)).stopped == "finished"
    with pytest.raises(ValueError, match="the factored engine cannot train this model: it needs one layer"):
        choose_engine(deep, "factored")
    with pytest.raises(ValueError, match="engine must be 'auto', 'factored' or 'plain', got 'fast'"):
        choose_engine(SMALL, "fast")


def test_runs_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="must agree in model"):
        next(train_many([SMALL, replace(SMALL, operation="subtract")]))
    with pytest.raises(ValueError, match="until must be"):
        next(train(SMALL, until="bored"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be a positive integer"),
        ({"train_fraction": 0.0}, "train_fraction must lie in"),
        ({"weight_decay": float("nan")}, "weight_decay must be finite"),
        ({"seed": -1}, "seed must be"),
        ({"loss_dtype": "float16"}, "loss_dtype must be"),
        ({"betas": (0.9, 1.0)}, "betas must be"),
        ({"operation": "divide"}, "operation must be"),
    ],
)
def test_a_configuration_is_checked_at_birth(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)


def test_a_configuration_survives_json():
    import json

    assert RunConfig.from_dict(json.loads(json.dumps(SMALL.to_dict()))) == SMALL
    with pytest.raises(ValueError, match=r"unknown run options \['lr'\]"):
        RunConfig.from_dict({"lr": 1.0})
