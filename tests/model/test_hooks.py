"""Every site's edit against the naive forward pass that goes on from the edited activation. No bias is zero."""

import pytest
import torch

from fourier_circuits.model.config import ModelConfig
from fourier_circuits.model.hooks import HookError, edited_logits
from fourier_circuits.model.sites import SITES, site_named
from fourier_circuits.model.transformer import build_transformer
from fourier_circuits.task import ModularAddition
from tests import oracles
from tests.planted import numpy_state, random_state
from tests.tolerance import assert_close

P = 5
SIZES = {"p": P, "d_model": 10, "n_heads": 2, "d_head": 3, "d_mlp": 7}
TASK = ModularAddition(P)
PARTS = {"embed": "operands", "attn_pattern": "pattern"}


def scrambled(grid):
    """An edit that is no projection: it turns pairs, scales and shifts."""
    return 0.7 * grid[::-1] + 0.1 if not torch.is_tensor(grid) else 0.7 * grid.flip(0) + 0.1


@pytest.fixture(scope="module", params=[1, 2], ids=["one layer", "two layers"])
def made(request):
    config = ModelConfig(**SIZES, n_layers=request.param)
    state = random_state(config, seed=request.param)
    return build_transformer(config, state=state, dtype=torch.float64), numpy_state(state)


def naive(state, layer, at, edit):
    """Logits of the naive pass with an edit at a site: (p, p, answer)."""
    name = "embed" if at == "embed" else f"{layer}.{at}"
    edits = {} if at == "logits" else {name: oracles.on_grid(edit, P, PARTS.get(at, "read"))}
    logits = oracles.forward(state, oracles.all_pairs(P), edits)["logits"][:, -1].reshape(P, P, -1)
    return (edit(logits) if at == "logits" else logits)[..., :P]


@pytest.mark.parametrize("layer", [None, 0])
@pytest.mark.parametrize("at", SITES)
def test_every_site(at, layer, made):
    model, state = made
    found = edited_logits(model, TASK, {at: scrambled}, layer)
    assert_close(found.logits, naive(state, model.cfg.n_layers - 1 if layer is None else 0, at, scrambled))
    assert found.fired == {at: 1}
    assert found.change[at] > 0.01


@pytest.mark.parametrize("at", SITES)
def test_the_identity_changes_nothing(at, made):
    model, state = made
    found = edited_logits(model, TASK, {at: lambda grid: grid})
    assert torch.equal(found.logits, edited_logits(model, TASK, {}).logits)
    assert_close(found.logits, naive(state, 0, "logits", lambda grid: grid))
    assert (found.fired, found.change) == ({at: 1}, {at: 0.0})


def test_two_edits_at_once(made):
    model, state = made
    last = model.cfg.n_layers - 1
    found = edited_logits(model, TASK, {"mlp_post": scrambled, "embed": scrambled})
    edits = {
        "embed": oracles.on_grid(scrambled, P, "operands"),
        f"{last}.mlp_post": oracles.on_grid(scrambled, P, "read"),
    }
    logits = oracles.forward(state, oracles.all_pairs(P), edits)["logits"][:, -1].reshape(P, P, -1)
    assert_close(found.logits, logits[..., :P])
    assert found.fired == {"mlp_post": 1, "embed": 1}


def test_how_far_the_edit_moved_its_grid(made):
    model, _ = made
    assert edited_logits(model, TASK, {"mlp_out": lambda grid: 1.5 * grid}).change["mlp_out"] == pytest.approx(0.5)
    assert edited_logits(model, TASK, {"mlp_out": torch.zeros_like}).change["mlp_out"] == pytest.approx(1)


SHAPES = {"embed": (2, 10), "attn_pattern": (2, 3), "mlp_pre": (7,), "mlp_post": (7,), "logits": (P + 1,)}


@pytest.mark.parametrize("at", SITES)
def test_the_grid_that_an_edit_sees(at, made):
    seen = []
    edited_logits(made[0], TASK, {at: lambda grid: seen.append((tuple(grid.shape), grid.dtype)) or grid})
    assert seen == [((P, P, *SHAPES.get(at, (10,))), torch.float64)]


def hooks_of(model):
    return [name for name, point in model.hook_dict.items() if point.fwd_hooks or point.bwd_hooks]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("at", SITES)
def test_hooks_are_gone_and_the_model_unchanged_after_an_exception(at, dtype):
    model = build_transformer(ModelConfig(**SIZES), dtype=dtype)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def broken(grid):
        grid += 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        edited_logits(model, TASK, {at: broken})
    assert hooks_of(model) == []
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert {p.dtype for p in model.parameters()} == {dtype}


def test_the_hook_check_can_fail():
    model = build_transformer(ModelConfig(**SIZES))
    model.add_hook("hook_embed", lambda activation, hook: None)
    assert "hook_embed" in hooks_of(model)


def test_an_edit_in_place_does_not_reach_what_was_computed_before(made):
    """`resid_mid` and `attn_out` share memory in no way that an edit could leak through."""
    model, state = made

    def in_place(grid):
        return grid.mul_(0.5)

    found = edited_logits(model, TASK, {"attn_out": in_place})
    assert_close(found.logits, naive(state, model.cfg.n_layers - 1, "attn_out", lambda grid: 0.5 * grid))


@pytest.mark.parametrize("at", ["embed", "mlp_post", "logits"])
def test_an_edit_of_the_wrong_shape(at, made):
    with pytest.raises(ValueError, match=rf"the edit at '{at}' must return shape \(5, 5, .*, got \(4, 5"):
        edited_logits(made[0], TASK, {at: lambda grid: grid[1:]})
    assert hooks_of(made[0]) == []


class Deaf:
    """A model in which no hook fires."""

    def __init__(self, model):
        self.model, self.blocks = model, model.blocks

    def run_with_cache(self, *args, **kwargs):
        return self.model.run_with_cache(*args, **kwargs)

    def parameters(self):
        return self.model.parameters()

    def run_with_hooks(self, *args, **kwargs):
        return self.model(*args)


class Stuttering(Deaf):
    """A model in which every hook fires twice."""

    def run_with_hooks(self, *args, **kwargs):
        return self.model.run_with_hooks(*args, fwd_hooks=2 * kwargs["fwd_hooks"])


@pytest.mark.parametrize(("kind", "times"), [(Deaf, 0), (Stuttering, 2)])
def test_a_hook_that_does_not_fire_once(kind, times, made):
    with pytest.raises(HookError, match=rf"the hook at 'mlp_post' ran {times} times instead of once: .*mlp.hook_post"):
        edited_logits(kind(made[0]), TASK, {"mlp_post": scrambled})


def test_a_site_that_an_attention_only_model_does_not_have():
    model = build_transformer(ModelConfig(**{**SIZES, "d_mlp": 0}))
    for at in ("mlp_pre", "mlp_post", "mlp_out"):
        with pytest.raises((HookError, ValueError), match=at):
            edited_logits(model, TASK, {at: scrambled})
    mid, post = (edited_logits(model, TASK, {at: scrambled}).logits for at in ("resid_mid", "resid_post"))
    assert_close(mid, post)


@pytest.mark.parametrize("layer", [-1, 1, 7])
def test_a_layer_that_does_not_exist(layer):
    model = build_transformer(ModelConfig(**SIZES))
    with pytest.raises(ValueError, match=rf"site 'mlp_post': layer must lie in 0..0, got {layer}"):
        edited_logits(model, TASK, {"mlp_post": scrambled}, layer)


def test_an_unknown_site_lists_the_known_ones():
    message = (
        "unknown site 'mlp'; known sites are embed, attn_pattern, attn_out, resid_mid, mlp_pre, mlp_post, mlp_out, "
        "resid_post, logits"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        site_named("mlp")
    with pytest.raises(ValueError, match=f"^{message}$"):
        edited_logits(build_transformer(ModelConfig(**SIZES)), TASK, {"mlp": scrambled})
