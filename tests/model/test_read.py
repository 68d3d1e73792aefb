"""Activations and weights read off a model are those of the naive forward pass, and the model stays as it was."""

import pytest
import torch

from fourier_circuits.arrays import Activations, Weights
from fourier_circuits.model import read
from fourier_circuits.model.config import ModelConfig
from fourier_circuits.model.read import read_activations, read_weights
from fourier_circuits.model.transformer import build_transformer
from fourier_circuits.task import GridTask, ModularAddition
from tests import oracles
from tests.planted import circuit_model, hooked_state_dict, numpy_state, random_state
from tests.tolerance import assert_close

SMALL = {"d_model": 10, "n_heads": 2, "d_head": 3, "d_mlp": 7}
CASES = {
    "one layer": ({"p": 7}, None),
    "even p, answers only": ({"p": 6, "d_vocab_out": 6}, None),
    "subtraction": ({"p": 5}, ModularAddition(5, "subtract")),
    "own tokens for b": ({"p": 5, "d_vocab": 11, "d_vocab_out": 5}, ModularAddition(5, separate_operands=True)),
    "two layers": ({"p": 5, "n_layers": 2}, None),
    "attention only": ({"p": 5, "d_mlp": 0}, None),
    "two layers of attention": ({"p": 6, "d_mlp": 0, "n_layers": 2}, None),
    "silu": ({"p": 5, "act_fn": "silu"}, None),
}


@pytest.fixture(params=CASES, ids=list(CASES))
def case(request):
    """A float64 model without a zero bias, the task to pass, and its naive forward pass."""
    sizes, task = CASES[request.param]
    config = ModelConfig(**{**SMALL, **sizes})
    state = random_state(config, seed=3)
    tokens = (task or ModularAddition(config.p)).flat_tokens().numpy()
    seen = oracles.forward(numpy_state(state), tokens, act=config.act_fn)
    return config, build_transformer(config, state=state, dtype=torch.float64), task, seen


def at_equals(activation, p):
    return activation[:, -1].reshape(p, p, *activation.shape[2:])


def test_activations(case):
    config, model, task, seen = case
    p, last = config.p, config.n_layers - 1
    found = read_activations(model, task)
    assert_close(found.logits, at_equals(seen["logits"], p)[..., :p])
    pattern = seen[f"{last}.attn_pattern"][:, :, -1]
    assert_close(found.attention, pattern.reshape(p, p, *pattern.shape[1:]))
    if config.d_mlp:
        assert_close(found.neurons, at_equals(seen[f"{last}.mlp_post"], p))
    else:
        assert found.neurons.shape == (p, p, 0)


def test_writes_are_each_components_and_sum_to_the_stream(case):
    config, model, task, seen = case
    p, last = config.p, config.n_layers - 1
    writes = read_activations(model, task).writes
    assert_close(sum(writes.values()), at_equals(seen[f"{last}.resid_post"], p))
    expected = {"embed": seen["embed"]}
    for layer in range(config.n_layers):
        prefix = f"L{layer} " if config.n_layers > 1 else ""
        expected |= {f"{prefix}head {head}": seen[f"{layer}.head {head}"] for head in range(config.n_heads)}
        if config.d_mlp:
            expected[f"{prefix}mlp"] = seen[f"{layer}.mlp_out"]
    for name, activation in expected.items():
        assert_close(writes[name], at_equals(activation, p))
    biases = {f"L{layer} attn bias" if config.n_layers > 1 else "attn bias" for layer in range(config.n_layers)}
    assert set(writes) == set(expected) | biases | {"pos_embed"}


def test_the_sum_of_writes_can_fail(case):
    config, model, task, seen = case
    writes = dict(read_activations(model, task).writes)
    writes.pop("attn bias" if config.n_layers == 1 else "L0 attn bias")
    with pytest.raises(AssertionError):
        assert_close(sum(writes.values()), at_equals(seen[f"{config.n_layers - 1}.resid_post"], config.p))


def test_the_two_ways_to_read_agree(case):
    config, model, task, _ = case
    task = task or ModularAddition(config.p)
    with torch.no_grad():
        parts, cached = read.factored_parts(model, task), read._from_cache(model, task)
    if config.n_layers != 1 or not config.d_mlp or config.act_fn != "relu":
        assert parts is None
        return
    quick = read._from_factored(*parts, task)
    for name in ("logits", "neurons", "attention"):
        assert_close(getattr(quick, name), getattr(cached, name))
    assert list(quick.writes) == list(cached.writes)
    for name, grid in quick.writes.items():
        assert_close(grid, cached.writes[name])


def test_reading_leaves_the_model_as_it_was(case):
    config, model, task, _ = case
    model = model.to(torch.float32)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    wants_gradient = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    found = read_activations(model, task)
    read_weights(model, task)
    assert found.logits.dtype == torch.float64
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.cfg.dtype == torch.float32
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert wants_gradient == {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert not any(point.fwd_hooks or point.bwd_hooks for point in model.hook_dict.values())


def test_a_users_hook_stays():
    model = circuit_model(7, (1, 3))
    model.add_perma_hook("hook_embed", lambda activation, hook: None)
    read_activations(model)
    read._from_cache(model, ModularAddition(7))
    assert len(model.hook_dict["hook_embed"].fwd_hooks) == 1


def test_float32_weights_are_computed_with_in_float64():
    config = ModelConfig(p=7, **SMALL)
    state = {name: tensor.float() for name, tensor in random_state(config).items()}
    seen = oracles.forward(numpy_state(state), oracles.all_pairs(7))
    assert_close(read_activations(build_transformer(config, state=state)).logits, at_equals(seen["logits"], 7)[..., :7])


def test_activations_carry_no_gradient(case):
    _, model, task, _ = case
    found = read_activations(model, task)
    assert not any(t.requires_grad for t in (found.logits, found.neurons, found.attention, *found.writes.values()))


def test_weights(case):
    config, model, task, _ = case
    p, last = config.p, config.n_layers - 1
    w = numpy_state(hooked_state_dict(model))
    found = read_weights(model, task)
    embed, unembed = w["embed.W_E"][:p], w["unembed.W_U"][:, :p]
    assert_close(found.embed, embed)
    assert_close(found.unembed, unembed)
    assert_close(found.logit_bias, w["unembed.b_U"][:p])
    if config.d_mlp:
        assert_close(found.neuron_to_logit, w[f"blocks.{last}.mlp.W_out"] @ unembed)
    else:
        assert found.neuron_to_logit.shape == (0, p)
    for head in range(config.n_heads):
        moved = embed @ w[f"blocks.{last}.attn.W_V"][head] @ w[f"blocks.{last}.attn.W_O"][head]
        assert_close(found.head_values[head], moved)
    squares: dict[str, float] = {}
    for name, tensor in w.items():
        if not name.endswith((".mask", ".IGNORE")):
            short = name.rsplit(".", 1)[-1]
            squares[short] = squares.get(short, 0.0) + float((tensor**2).sum())
    assert set(found.squares) == set(squares)
    for name, value in squares.items():
        assert_close(found.squares[name], value)


def model_of(**sizes):
    return build_transformer(ModelConfig(**{**SMALL, "p": 7, **sizes}))


def test_the_task_is_read_off_the_vocabulary():
    assert read.task_of(model_of()).p == 7
    assert read.task_of(model_of(d_vocab_out=7)).p == 7


@pytest.mark.parametrize("sizes", [{"n_ctx": 4}, {"d_vocab": 15, "d_vocab_out": 7}, {"d_vocab_out": 9}])
def test_a_model_of_another_task_needs_it_said(sizes):
    with pytest.raises(ValueError, match=r"cannot tell the task .* pass task=\.\.\."):
        read_activations(model_of(**sizes))


@pytest.mark.parametrize(
    ("sizes", "task"),
    [
        ({}, ModularAddition(11)),
        ({}, ModularAddition(5)),
        ({}, ModularAddition(7, separate_operands=True)),
        ({"n_ctx": 2}, ModularAddition(7)),
    ],
)
def test_a_task_that_does_not_fit(sizes, task):
    with pytest.raises(ValueError, match=rf"the task \(p={task.p}: .* does not fit the model, which has 8 tokens"):
        read_activations(model_of(**sizes), task)


def test_a_task_of_ones_own():
    """The middle token is the constant one, and the answer is read there, for three of its logits."""
    config = ModelConfig(p=5, **SMALL)
    state = random_state(config)
    a = torch.arange(5)
    tokens = torch.stack([a[:, None].expand(5, 5), torch.full((5, 5), 5), a.expand(5, 5)], dim=-1)
    outputs = torch.tensor([4, 0, 2])
    task = GridTask(5, tokens, (a[:, None] + a) % 3, outputs, read_at=1, operands_at=(0, 2))
    found = read_activations(build_transformer(config, state=state, dtype=torch.float64), task)
    seen = oracles.forward(numpy_state(state), task.flat_tokens().numpy())
    assert_close(found.logits, seen["logits"][:, 1][:, [4, 0, 2]].reshape(5, 5, 3))
    assert_close(sum(found.writes.values()), seen["0.resid_post"][:, 1].reshape(5, 5, -1))


def activations(**changes):
    grid = torch.zeros(5, 5, 5, dtype=torch.float64)
    return Activations(
        **{"logits": grid, "neurons": grid, "attention": grid[..., None], "writes": {"embed": grid}, **changes}
    )


def test_activations_refuse_what_does_not_fit():
    wide = torch.zeros(5, 5, 6, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"neurons must be a float64 grid of \(5, 5\) pairs, got torch.float32"):
        activations(neurons=torch.zeros(5, 5, 3))
    with pytest.raises(ValueError, match=r"mlp must be a float64 grid of \(5, 5\) pairs, got .* \(4, 5, 2\)"):
        activations(writes={"mlp": torch.zeros(4, 5, 2, dtype=torch.float64)})
    with pytest.raises(ValueError, match="one residual stream, got widths {'a': 6, 'b': 5}"):
        activations(writes={"a": wide, "b": wide[..., :5]})


def test_weights_refuse_what_does_not_fit():
    good = read_weights(model_of())
    fields = {name: getattr(good, name) for name in Weights.__dataclass_fields__}
    with pytest.raises(ValueError, match="must share their axes"):
        Weights(**{**fields, "unembed": good.unembed[:, :-1]})
