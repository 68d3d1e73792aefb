import pytest
from typeguard import suppress_type_checks

from fourier_circuits.model.config import ModelConfig


def test_the_papers_sizes():
    c = ModelConfig.paper()
    sizes = (c.p, c.d_model, c.n_heads, c.d_head, c.d_mlp, c.n_layers, c.n_ctx, c.act_fn, c.d_vocab, c.d_vocab_out)
    assert sizes == (113, 128, 4, 32, 512, 1, 3, "relu", 114, 114)
    assert c.mlp_biases
    assert ModelConfig.paper(p=59).d_vocab == 60


def test_vocabularies_may_be_given():
    c = ModelConfig(p=7, d_vocab=15, d_vocab_out=7)
    assert (c.d_vocab, c.d_vocab_out) == (15, 7)


def test_dictionary_round_trip():
    c = ModelConfig(p=7, d_model=8, mlp_biases=False)
    assert ModelConfig.from_dict(c.to_dict()) == c


def test_an_unknown_option_is_named():
    with pytest.raises(ValueError, match=r"unknown model options \['dmodel'\]; known are \['act_fn', 'd_head'"):
        ModelConfig.from_dict({"p": 7, "dmodel": 8})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"p": 2}, "p must be at least 3"),
        ({"p": -7}, "p must be a positive integer, got -7"),
        ({"d_model": 0}, "d_model must be a positive integer, got 0"),
        ({"d_mlp": -1}, "d_mlp must be a positive integer, got -1"),
        ({"n_heads": 2.0}, "n_heads must be a positive integer, got 2.0"),
        ({"n_layers": True}, "n_layers must be a positive integer, got True"),
        ({"d_head": "32"}, "d_head must be a positive integer, got '32'"),
        ({"act_fn": "tanh"}, "act_fn must be 'relu', 'gelu' or 'silu', got 'tanh'"),
        ({"d_vocab": -3}, "d_vocab must be a positive integer, got -3"),
        ({"d_vocab": 3}, "d_vocab"),  # p=7 has more numbers than tokens
        ({"d_vocab_out": 3}, "d_vocab_out"),
    ],
)
def test_refuses(changes, message):
    with suppress_type_checks(), pytest.raises(ValueError) as raised:
        ModelConfig(**{"p": 7, **changes})
    assert message in str(raised.value)
