"""`ablate`: closed forms at every site, what the result records, and what is refused."""

import numpy as np
import pandas as pd
import pytest
import torch
from typeguard import suppress_type_checks

from fourier_circuits.ablation import ablate
from fourier_circuits.analysis.losses import accuracy, excluded_loss, full_loss, restricted_loss
from fourier_circuits.model.config import ModelConfig
from fourier_circuits.model.hooks import HookError
from fourier_circuits.model.sites import SITES
from fourier_circuits.model.transformer import build_transformer
from fourier_circuits.task import GridTask, ModularAddition
from tests import oracles
from tests.planted import circuit_model, numpy_state, random_mask, random_state
from tests.tolerance import assert_close

P = 7
SIZES = {"p": P, "d_model": 10, "n_heads": 2, "d_head": 3, "d_mlp": 9}
PARTS = {"embed": "operands", "attn_pattern": "pattern"}
FROM_MLP_POST = ("mlp_post", "mlp_out", "resid_post", "logits")


def made(**changes):
    config = ModelConfig(**{**SIZES, **changes})
    state = random_state(config, seed=1, scale=2.0)
    return build_transformer(config, state=state, dtype=torch.float64), numpy_state(state)


def naive(state, p, at, edit, layer=0):
    """Logits with an edit at a site: (p, p, answer)."""
    name = "embed" if at == "embed" else f"{layer}.{at}"
    edits = {} if at == "logits" else {name: oracles.on_grid(edit, p, PARTS.get(at, "read"))}
    logits = oracles.forward(state, oracles.all_pairs(p), edits)["logits"][:, -1].reshape(p, p, -1)[..., :p]
    return edit(logits) if at == "logits" else logits


PLACES = [(at, directions) for at in SITES for directions in ("sum", "block") if (at, directions) != ("embed", "sum")]
"""There is no sum of a and b in the embedding: see `test_there_is_no_sum_in_the_embedding`."""


@pytest.mark.parametrize("keep", [False, True], ids=["remove", "keep"])
@pytest.mark.parametrize(("at", "directions"), PLACES)
@pytest.mark.parametrize(("p", "freqs"), [(7, (3, 1)), (6, (3,))], ids=["odd", "even top"])
def test_every_site_against_the_naive_pass(p, freqs, at, directions, keep):
    model, state = made(p=p)
    found = ablate(model, freqs, at=at, keep=keep, directions=directions)
    logits = naive(state, p, at, lambda grid: oracles.ablated(grid, freqs, directions, keep))
    assert_close(found.logits, logits)
    answers = ModularAddition(p).answers.numpy()
    assert_close(found.loss, oracles.cross_entropy(logits, answers))
    assert found.accuracy == pytest.approx(oracles.accuracy(logits, answers), abs=1e-12)
    assert_close(found.baseline_loss, oracles.cross_entropy(naive(state, p, "logits", lambda grid: grid), answers))
    assert (found.freqs, found.at, found.keep, found.directions, found.hooks_fired) == (freqs, at, keep, directions, 1)
    assert found.change > 1e-3


def test_the_naive_comparison_can_fail():
    model, state = made()
    logits = naive(state, P, "mlp_post", lambda grid: oracles.ablated(grid, (3,), "block", keep=False))
    with pytest.raises(AssertionError):
        assert_close(ablate(model, 3, at="mlp_post", directions="sum").logits, logits)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize(("p", "freqs"), [(7, (2, 3)), (6, (3,))])
def test_the_embedding_loses_rows_of_one_dimensional_frequencies(p, freqs, keep):
    """The same as editing W_E itself: the rows of the numbers, not that of `=`."""
    model, state = made(p=p)
    rows = state["embed.W_E"][:p]
    part = oracles.number_part(rows, freqs)
    edited = rows.mean(axis=0) + part if keep else rows - part
    state["embed.W_E"] = np.concatenate([edited, state["embed.W_E"][p:]])
    found = ablate(model, freqs, at="embed", keep=keep)
    assert_close(found.logits, naive(state, p, "logits", lambda grid: grid))


def test_attention_is_edited_head_by_head():
    """By hand for one head: its pattern without the block, the other head's as well, neither mixed with the other."""
    model, state = made()
    clean = oracles.forward(state, oracles.all_pairs(P))
    pattern = clean["0.attn_pattern"][:, :, -1].reshape(P, P, 2, 3)
    attn_out = np.zeros((P, P, 10)) + state["blocks.0.attn.b_O"]
    stream = (clean["embed"] + state["pos_embed.W_pos"]).reshape(P, P, 3, 10)
    for head in range(2):
        edited = pattern[:, :, head] - oracles.block_part(pattern[:, :, head], [2])
        values = stream @ state["blocks.0.attn.W_V"][head] + state["blocks.0.attn.b_V"][head]
        attn_out += np.einsum("abp,abpd->abd", edited, values) @ state["blocks.0.attn.W_O"][head]
    mid = stream[:, :, -1] + attn_out
    post = np.maximum(mid @ state["blocks.0.mlp.W_in"] + state["blocks.0.mlp.b_in"], 0)
    final = mid + post @ state["blocks.0.mlp.W_out"] + state["blocks.0.mlp.b_out"]
    logits = (final @ state["unembed.W_U"] + state["unembed.b_U"])[..., :P]
    assert_close(ablate(model, 2, at="attn_pattern").logits, logits)


@pytest.mark.parametrize("layer", [None, 0, 1])
def test_the_layers_of_a_deeper_model(layer):
    model, state = made(n_layers=2)
    found = ablate(model, 2, at="mlp_post", layer=layer)
    which = 1 if layer is None else layer
    assert_close(found.logits, naive(state, P, "mlp_post", lambda g: oracles.ablated(g, [2], "sum", False), which))
    assert found.layer == which
    assert f"mlp_post of layer {which}" in repr(found)


@pytest.mark.parametrize("at", SITES)
def test_default_directions(at):
    found = ablate(made()[0], 2, at=at)
    assert found.directions == ("sum" if at in FROM_MLP_POST else "block")
    assert found.layer == (None if at in ("embed", "logits") else 0)


@pytest.mark.parametrize("directions", ["sum", "block"])
def test_at_the_logits_it_is_the_papers_two_losses(directions):
    model, state = made()
    logits = torch.from_numpy(naive(state, P, "logits", lambda grid: grid))
    answers, train = ModularAddition(P).answers, random_mask(P)
    kept = ablate(model, [1, 3], keep=True, directions=directions, train=train)
    removed = ablate(model, [1, 3], directions=directions, train=train)
    for name, where in {"all": None, "train": train, "test": ~train}.items():
        options = {"where": where, "directions": directions}
        assert_close(getattr(kept, name).loss, restricted_loss(logits, answers, [1, 3], **options))
        assert_close(getattr(removed, name).loss, excluded_loss(logits, answers, [1, 3], **options))


@pytest.mark.parametrize("at", ["logits", "mlp_post"])
def test_train_and_test_scores_are_those_of_masks(at):
    model, state = made()
    train = random_mask(P, seed=5)
    found = ablate(model, [2], at=at, train=train)
    answers = ModularAddition(P).answers.numpy()
    baseline = naive(state, P, "logits", lambda grid: grid)
    for scores, where in ((found.all, None), (found.train, train.numpy()), (found.test, ~train.numpy())):
        logits = found.logits.numpy()
        assert_close(scores.loss, oracles.cross_entropy(logits, answers, where))
        assert_close(scores.baseline_loss, oracles.cross_entropy(baseline, answers, where))
        assert scores.accuracy == pytest.approx(oracles.accuracy(logits, answers, where), abs=1e-12)
        assert scores.baseline_accuracy == pytest.approx(oracles.accuracy(baseline, answers, where), abs=1e-12)
    without = ablate(model, [2], at=at)
    assert without.train is without.test is None


def test_each_frequency_by_itself():
    model, _ = made()
    train = random_mask(P)
    found = ablate(model, [3, 1], at="mlp_post", each=True, train=train)
    assert found.freqs == (3, 1)
    assert [row.freqs for row in found.each] == [(3,), (1,)]
    for row in found.each:
        alone = ablate(model, row.freqs, at="mlp_post", train=train)
        assert torch.equal(row.logits, alone.logits)
        assert row.train == alone.train
    frame = found.to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert frame["freqs"].tolist() == [3, 1]
    assert frame["loss"].tolist() == [row.loss for row in found.each]
    assert {"train_loss", "test_accuracy", "baseline_loss", "change", "directions"} <= set(frame.columns)
    assert torch.equal(found.logits, ablate(model, [3, 1], at="mlp_post").logits)


def test_one_frequency_each_is_the_joint_one():
    found = ablate(made()[0], 2, each=True)
    assert (len(found.each), found.each[0].loss) == (1, found.loss)


def test_the_frame_of_a_joint_ablation_is_one_row():
    frame = ablate(made()[0], [1, 2]).to_frame()
    assert frame["freqs"].tolist() == [[1, 2]]
    assert "train_loss" not in frame.columns


def test_repr_says_what_was_done():
    found = ablate(made()[0], [1, 3], keep=True)
    expected = (
        f"Ablation(keep only 1, 3 (sum directions) at logits: loss {found.baseline_loss:.4g} -> {found.loss:.4g}, "
        f"accuracy {found.baseline_accuracy:.2%} -> {found.accuracy:.2%}, all 49 pairs)"
    )
    assert repr(found) == expected
    assert repr(ablate(made()[0], 2, at="embed")).startswith("Ablation(remove 2 (block directions) at embed: ")


def test_html_of_a_notebook():
    found = ablate(made()[0], [1, 3], each=True)
    html = found._repr_html_()
    assert html.count("<tr") == 3
    assert "<table" in html
    assert "remove 1, 3" in html
    assert f"{found.each[0].loss:.4g}" in html


def test_the_planted_circuit_needs_its_frequencies_at_every_site():
    """The question of the library, answered on a network of which the answer is known."""
    model, freqs = circuit_model(13, (2, 5, 6)), (2, 5, 6)
    for at in SITES:
        if at == "attn_pattern":  # uniform: see the next test
            continue
        removed = ablate(model, freqs, at=at)
        assert removed.baseline_accuracy == 1.0
        assert removed.accuracy < 0.6, at  # what turns with |cos w(a-b)/2| stays where only the sum goes
        assert removed.loss > 100 * removed.baseline_loss, at
        if at in FROM_MLP_POST:
            assert ablate(model, freqs, at=at, keep=True).accuracy == 1.0, at


def test_attention_that_is_uniform_has_no_frequency_to_remove():
    with pytest.raises(HookError, match="the ablation at 'attn_pattern' changed nothing: its activation has no block"):
        ablate(circuit_model(13, (2, 5)), 2, at="attn_pattern")


def test_there_is_no_sum_in_the_embedding():
    with pytest.raises(HookError, match="changed nothing: .* has no sum component of 2; .* try directions='block'"):
        ablate(made()[0], 2, at="embed", directions="sum")


def test_keeping_what_is_all_there_is_changes_nothing():
    model = circuit_model(13, (2, 5))
    with pytest.raises(HookError, match="has no component outside the block directions of 2, 5"):
        ablate(model, [2, 5], at="embed", keep=True)


def test_one_absent_frequency_among_several_is_no_error():
    found = ablate(circuit_model(13, (2, 5)), [2, 4], at="embed", each=True)
    assert found.each[1].loss == pytest.approx(found.baseline_loss)
    assert found.each[0].loss > 10 * found.baseline_loss


def test_the_model_is_never_changed():
    model = build_transformer(ModelConfig(**SIZES))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for at in SITES:
        ablate(model, [1, 2], at=at, each=True)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(point.fwd_hooks for point in model.hook_dict.values())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(("task", "sign"), [(ModularAddition(P, "subtract"), -1), (ModularAddition(P), 1)])
def test_the_sum_directions_are_those_of_the_task(task, sign):
    model, state = made()
    for at in ("logits", "mlp_post"):
        found = ablate(model, [1, 2], at=at, task=task)
        expected = naive(state, P, at, lambda grid: oracles.ablated(grid, [1, 2], "sum", False, sign))
        assert_close(found.logits, expected)
        assert_close(found.loss, oracles.cross_entropy(expected, task.answers.numpy()))


def test_a_subtraction_said_as_a_plain_task():
    """A `GridTask` with the answers of subtraction is subtraction, whatever its class."""
    named, model = ModularAddition(P, "subtract"), made()[0]
    plain = GridTask(P, named.tokens, named.answers, named.outputs)
    assert ablate(model, 2, task=plain).loss == ablate(model, 2, task=named).loss


def test_separate_tokens_for_the_second_summand():
    model, state = made(d_vocab=2 * P + 1, d_vocab_out=P)
    task = ModularAddition(P, separate_operands=True)
    tokens = task.flat_tokens().numpy()

    def edit(grid):
        return oracles.ablated(grid, [2], "block", False)

    expected = oracles.forward(state, tokens, {"embed": oracles.on_grid(edit, P, "operands")})["logits"]
    assert_close(ablate(model, 2, at="embed", task=task).logits, expected[:, -1].reshape(P, P, P))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"at": "mlp"}, ValueError, "unknown site 'mlp'; known sites are embed, attn_pattern, attn_out, resid_mid"),
        ({"freqs": [4]}, ValueError, "frequencies must lie in 1..3 for p=7, got 4"),
        ({"freqs": []}, ValueError, "expected at least one frequency in 1..3 for p=7, got none"),
        ({"freqs": [1, 1]}, ValueError, "each frequency may be given once, got [1, 1]"),
        ({"freqs": [1.0]}, TypeError, "frequencies must be integers in 1..3 for p=7, got [1.0]"),
        ({"freqs": "14"}, TypeError, "frequencies must be integers in 1..3 for p=7, got ['1', '4']"),
        ({"directions": "diagonal"}, ValueError, "directions must be 'sum' or 'block', got 'diagonal'"),
        (
            {"train": torch.ones(5, 5, dtype=torch.bool)},
            ValueError,
            "must be a mask of shape (7, 7), True for the training pairs, got torch.bool of shape (5, 5)",
        ),
        ({"task": ModularAddition(11)}, ValueError, "the task (p=11: tokens up to 11"),
        ({"task": ModularAddition(5)}, ValueError, "the task (p=5: tokens up to 5"),
        ({"at": "mlp_post", "layer": 1}, ValueError, "site 'mlp_post': layer must lie in 0..0, got 1"),
    ],
)
def test_refused(arguments, error, message):
    arguments = {"freqs": [1], **arguments}
    with suppress_type_checks(), pytest.raises(error) as raised:
        ablate(made()[0], **arguments)
    assert message in str(raised.value)


@pytest.mark.parametrize("train", [torch.ones(P, P), torch.ones(P, P, dtype=torch.int64)])
def test_a_mask_of_numbers_is_refused(train):
    """As an index it would pick rows 0 and 1 instead of pairs; refused for a user, who has no type checker on."""
    with suppress_type_checks(), pytest.raises((ValueError, TypeError), match="train must be a mask"):
        ablate(made()[0], 1, train=train)


def test_full_loss_of_a_result_is_its_loss():
    found = ablate(made()[0], 1, at="mlp_post")
    answers = ModularAddition(P).answers
    assert (found.loss, found.accuracy) == (full_loss(found.logits, answers), accuracy(found.logits, answers))
