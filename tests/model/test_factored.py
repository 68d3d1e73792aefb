"""The factored forward and backward pass against the transformer and against the naive one."""

from dataclasses import replace

import pytest
import torch
from torch.func import functional_call

from fourier_circuits.model import factored
from fourier_circuits.model.config import ModelConfig
from fourier_circuits.model.factored import Batch, Buffers, tokens_at, why_not_factored
from fourier_circuits.model.state import is_trained
from fourier_circuits.model.transformer import build_transformer, native_parameters
from fourier_circuits.task import GridTask, ModularAddition
from tests import oracles
from tests.planted import numpy_state, random_mask, random_state
from tests.tolerance import assert_close

CASES = {
    "odd p": ({"p": 7, "d_model": 10, "n_heads": 2, "d_head": 3, "d_mlp": 11}, {}),
    "even p, one head": ({"p": 6, "d_model": 5, "n_heads": 1, "d_head": 4, "d_mlp": 3}, {}),
    "answers only": ({"p": 7, "d_model": 8, "n_heads": 4, "d_head": 2, "d_mlp": 16, "d_vocab_out": 7}, {}),
    "no MLP biases": ({"p": 8, "d_model": 12, "n_heads": 3, "d_head": 4, "d_mlp": 9, "mlp_biases": False}, {}),
    "subtraction": ({"p": 5, "d_model": 6, "n_heads": 2, "d_head": 3, "d_mlp": 8}, {"operation": "subtract"}),
    "own tokens for b": (
        {"p": 5, "d_model": 6, "n_heads": 2, "d_head": 3, "d_mlp": 8, "d_vocab": 11, "d_vocab_out": 5},
        {"separate_operands": True},
    ),
}


@pytest.fixture(params=CASES, ids=list(CASES))
def case(request):
    """A configuration, its task and a state without a zero bias."""
    sizes, options = CASES[request.param]
    config = ModelConfig(**sizes)
    return config, ModularAddition(config.p, **options), random_state(config, seed=len(request.param))


def stacked(*states):
    return {name: torch.stack([state[name] for state in states]) for name in states[0]}


def test_forward_is_the_transformers(case):
    config, task, state = case
    everything = torch.ones(config.p, config.p, dtype=torch.bool)
    found = factored.forward(factored.tables(stacked(state), tokens_at(task)), Batch.of_pairs(task, [everything]))
    seen = oracles.forward(numpy_state(state), task.flat_tokens().numpy())
    model = build_transformer(config, state=state, dtype=torch.float64)
    assert_close(found.logits[0], model(task.flat_tokens())[:, -1])
    assert_close(found.logits[0], seen["logits"][:, -1])
    assert_close(found.hidden[0], seen["0.mlp_post"][:, -1])
    assert_close(found.pattern[0], seen["0.attn_pattern"][:, :, -1])


def transformer_gradients(config, task, state, mask):
    model = build_transformer(config, state=state, dtype=torch.float64)
    weights = {name: tensor.clone().requires_grad_(is_trained(name, config)) for name, tensor in state.items()}
    logits = functional_call(model, native_parameters(model, weights), task.tokens[mask])[:, -1]
    loss = torch.nn.functional.cross_entropy(logits, task.answers[mask])
    loss.backward()
    return loss, {name: tensor.grad for name, tensor in weights.items() if tensor.requires_grad}


def factored_gradients(task, states, masks):
    weights = {name: tensor.requires_grad_() for name, tensor in stacked(*states).items()}
    batch, buffers = Batch.of_pairs(task, masks), Buffers()
    for _ in range(2):  # the second time in used buffers
        tables = factored.tables(weights, tokens_at(task))
        loss, upstream = factored.loss_and_gradients(tables, batch, buffers)
        gradients = torch.autograd.grad(tables.flat(), list(weights.values()), upstream)
    return loss, dict(zip(weights, gradients, strict=True))


def test_loss_and_gradients_are_the_transformers(case):
    config, task, state = case
    mask = random_mask(config.p)
    expected_loss, expected = transformer_gradients(config, task, state, mask)
    loss, found = factored_gradients(task, [state], [mask])
    assert_close(loss[0], expected_loss)
    assert len(expected) == (11 if config.mlp_biases else 9)
    for name, gradient in expected.items():
        assert_close(found[name][0], gradient)


def test_the_gradient_check_can_fail(case):
    config, task, state = case
    mask = random_mask(config.p)
    _, expected = transformer_gradients(config, task, state, mask)
    wrong = {**state, "blocks.0.attn.b_V": 1.01 * state["blocks.0.attn.b_V"]}
    _, found = factored_gradients(task, [wrong], [mask])
    with pytest.raises(AssertionError):
        for name, gradient in expected.items():
            assert_close(found[name][0], gradient)


def assert_each_its_own(config, task, states, masks):
    losses, found = factored_gradients(task, states, masks)
    for run, (state, mask) in enumerate(zip(states, masks, strict=True)):
        loss, expected = transformer_gradients(config, task, state, mask)
        assert_close(losses[run], loss)
        for name, gradient in expected.items():
            assert_close(found[name][run], gradient)


def test_several_runs_at_once_are_each_their_own(case):
    config, task, _ = case
    states = [random_state(config, seed) for seed in range(3)]
    counted = int(random_mask(config.p).sum())
    masks = [torch.zeros(config.p**2, dtype=torch.bool) for _ in states]
    for seed, mask in enumerate(masks):
        mask[torch.randperm(config.p**2, generator=torch.Generator().manual_seed(seed))[:counted]] = True
    masks = [mask.view(config.p, config.p) for mask in masks]
    assert_each_its_own(config, task, states, masks)


def test_runs_of_unequal_many_pairs_are_each_their_own(case):
    config, task, _ = case
    states = [random_state(config, seed) for seed in range(2)]
    few = torch.zeros(config.p, config.p, dtype=torch.bool)
    few[1, 2:4] = True
    masks = [few, random_mask(config.p)]
    assert_each_its_own(config, task, states, masks)


def test_cross_entropy_and_accuracy_of_each_run():
    masks = [random_mask(5, seed=1), torch.ones(5, 5, dtype=torch.bool), torch.zeros(5, 5, dtype=torch.bool)]
    batch = Batch.of_pairs(ModularAddition(5), masks)
    logits = torch.randn(3, 25, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    losses, shares = factored.cross_entropy(logits, batch), factored.accuracy(logits, batch)
    for run in (0, 1):
        count = int(masks[run].sum())
        own, answer = logits[run, :count], batch.answer[run, :count]
        assert_close(losses[run], torch.nn.functional.cross_entropy(own, answer))
        assert shares[run] == (own.argmax(dim=1) == answer).double().mean()
    assert losses[2].isnan() and shares[2].isnan()
    sure = torch.nn.functional.one_hot(batch.answer, 6).double()
    assert factored.accuracy(sure, batch)[:2].tolist() == [1.0, 1.0]


TASK = ModularAddition(5)


def changed_task(**changes) -> GridTask:
    fields = {name: getattr(TASK, name) for name in ("p", "tokens", "answers", "outputs", "read_at", "operands_at")}
    return GridTask(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "task", "reason"),
    [
        ({}, TASK, None),
        ({}, changed_task(read_at=2), None),
        ({"n_layers": 2}, TASK, "it needs one layer with an MLP, this model has 2 layers, d_mlp=512"),
        ({"d_mlp": 0}, TASK, "it needs one layer with an MLP, this model has 1 layers, d_mlp=0"),
        ({"act_fn": "gelu"}, TASK, "its backward pass is written for relu, this model has gelu"),
        ({}, changed_task(read_at=1), "it needs inputs of three tokens a, b, = that are read at the last"),
        ({}, changed_task(operands_at=(1, 0)), "it needs inputs of three tokens a, b, = that are read at the last"),
        ({}, changed_task(tokens=TASK.tokens[..., :2]), "it needs inputs of three tokens"),
        ({}, changed_task(tokens=TASK.tokens.flip(-1)), "it needs a token that depends on a alone"),
        ({}, changed_task(tokens=TASK.tokens.transpose(0, 1)), "it needs a token that depends on a alone"),
    ],
)
def test_why_not_factored(changes, task, reason):
    found = why_not_factored(replace(ModelConfig(p=5), **changes), task)
    assert found is None if reason is None else reason in found
