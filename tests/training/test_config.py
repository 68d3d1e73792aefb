import pytest
from typeguard import suppress_type_checks

from fourier_circuits.model.config import ModelConfig
from fourier_circuits.training.config import RunConfig


def test_the_papers_run():
    c = RunConfig()
    assert (c.model, c.seed, c.train_fraction, c.epochs) == (ModelConfig.paper(), 0, 0.3, 40_000)
    assert (c.learning_rate, c.weight_decay, c.betas, c.warmup) == (1e-3, 1.0, (0.9, 0.98), 10)
    assert c.loss_dtype == "float64"


def test_dictionary_round_trip():
    c = RunConfig(ModelConfig(p=7, d_model=8), seed=3, operation="subtract", betas=(0.5, 0.9))
    assert RunConfig.from_dict(c.to_dict()) == c
    assert RunConfig.from_dict({**c.to_dict(), "betas": [0.5, 0.9]}) == c
    assert RunConfig.from_dict({}) == RunConfig()


def test_an_unknown_option_is_named():
    with pytest.raises(ValueError, match=r"unknown run options \['lr'\]"):
        RunConfig.from_dict({"lr": 1e-3})
    with pytest.raises(ValueError, match=r"unknown model options \['width'\]"):
        RunConfig.from_dict({"model": {"width": 3}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be a positive integer, got 0"),
        ({"epochs": 1.5}, "epochs must be a positive integer, got 1.5"),
        ({"log_every": True}, "log_every must be a positive integer, got True"),
        ({"warmup": -1}, "warmup must be a positive integer, got -1"),
        ({"seed": -1}, "seed must be an integer of at least 0, got -1"),
        ({"train_fraction": 0}, "train_fraction must lie in (0, 1], got 0"),
        ({"train_fraction": float("nan")}, "train_fraction must lie in (0, 1], got nan"),
        ({"learning_rate": float("inf")}, "learning_rate must be finite and not negative, got inf"),
        ({"weight_decay": -1.0}, "weight_decay must be finite and not negative, got -1.0"),
        ({"betas": (0.9, 1.0)}, "betas must be two numbers in [0, 1), got (0.9, 1.0)"),
        ({"betas": (0.9,)}, "betas must be two numbers in [0, 1), got (0.9,)"),
        ({"loss_dtype": "bfloat16"}, "loss_dtype must be 'float64' or 'float32', got 'bfloat16'"),
        ({"operation": "times"}, "operation must be 'add' or 'subtract', got 'times'"),
    ],
)
def test_refuses(change, message):
    with suppress_type_checks(), pytest.raises(ValueError) as raised:
        RunConfig(ModelConfig(p=7), **change)
    assert str(raised.value) == message


def test_too_few_pairs_to_train_on():
    with pytest.raises(ValueError, match="train"):
        RunConfig(ModelConfig(p=5), train_fraction=0.01)
