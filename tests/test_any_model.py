"""Models that are not the paper's: deep ones, LayerNorm, a GPT-2 shape, a module of the user's own, other tasks."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

from fourier_circuits.ablation import ablate
from fourier_circuits.analysis.residual import residual_table
from fourier_circuits.identification import key_frequencies
from fourier_circuits.model.config import ModelConfig
from fourier_circuits.model.lens import state_of, task_of
from fourier_circuits.model.read import read_activations, read_weights
from fourier_circuits.model.sites import SITES
from fourier_circuits.model.transformer import HookedTransformer, build_transformer
from fourier_circuits.task import GridTask
from tests.planted import circuit_state, random_state
from tests.tolerance import assert_close

P = 7


def language_task(p: int = P, vocabulary: int = 20) -> GridTask:
    """A prompt of five tokens, `12 a 13 b 14`, answered at its last: the numbers are tokens 2 to 8, backwards."""
    a = torch.arange(p)[:, None].expand(p, p)
    word = 8 - torch.arange(p)
    constant = [torch.full((p, p), token) for token in (12, 13, 14)]
    return GridTask(
        p=p,
        tokens=torch.stack([constant[0], word[a], constant[1], word[a.T], constant[2]], dim=-1),
        answers=(2 * a + 3 * a.T + 1) % p,
        outputs=word,
        operands_at=(1, 3),
    )


def gpt2_shaped(norm: str = "LN", layers: int = 2):
    """A random transformer with LayerNorm, gelu_new and five positions, from whichever TransformerLens there is."""
    sizes = {
        "n_layers": layers, "d_model": 12, "n_ctx": 5, "d_head": 6, "n_heads": 2, "d_mlp": 24, "act_fn": "gelu_new",
        "d_vocab": 20, "normalization_type": norm, "seed": 0, "device": "cpu",
    }  # fmt: skip
    if HookedTransformer is not None:
        from transformer_lens import HookedTransformerConfig

        model = HookedTransformer(HookedTransformerConfig(**sizes))
    else:
        from transformer_lens.config.transformer_bridge_config import TransformerBridgeConfig
        from transformer_lens.model_bridge import TransformerBridge

        model = TransformerBridge.boot_native(TransformerBridgeConfig(**sizes), device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return model


class OwnModel(HookedRootModule):
    """One block on the usual hook names, written as a user would: the weights are those of a `HookedTransformer`."""

    def __init__(self, state: dict, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        for name in ("embed.W_E", "pos_embed.W_pos", "unembed.W_U"):
            self.register_parameter(name.split(".")[1], nn.Parameter(state[name]))
        block = nn.Module()
        for part in ("attn", "mlp"):
            inner = nn.Module()
            for name, tensor in state.items():
                if f".{part}." in name:
                    inner.register_parameter(name.rsplit(".", 1)[1], nn.Parameter(tensor))
            block.add_module(part, inner)
        for name in ("hook_pattern", "hook_z"):
            block.attn.add_module(name, HookPoint())
        for name in ("hook_pre", "hook_post"):
            block.mlp.add_module(name, HookPoint())
        for name in ("hook_resid_pre", "hook_attn_out", "hook_mlp_out", "hook_resid_post"):
            block.add_module(name, HookPoint())
        self.blocks = nn.ModuleList([block])
        self.hook_embed, self.hook_pos_embed = HookPoint(), HookPoint()
        self.setup()

    def forward(self, tokens):
        b, mask = self.blocks[0], torch.ones(tokens.shape[1], tokens.shape[1]).tril().bool()
        x = b.hook_resid_pre(
            self.hook_embed(self.W_E[tokens]) + self.hook_pos_embed(self.W_pos.expand(len(tokens), -1, -1))
        )
        q, k, v = (
            torch.einsum("bpd,hde->bphe", x, getattr(b.attn, f"W_{n}")) + getattr(b.attn, f"b_{n}") for n in "QKV"
        )
        scores = torch.einsum("bqhe,bkhe->bhqk", q, k) / q.shape[-1] ** 0.5
        pattern = b.attn.hook_pattern(scores.masked_fill(~mask, -torch.inf).softmax(dim=-1))
        z = b.attn.hook_z(torch.einsum("bhqk,bkhe->bqhe", pattern, v))
        x = x + b.hook_attn_out(torch.einsum("bqhe,hed->bqd", z, b.attn.W_O) + b.attn.b_O)
        post = b.mlp.hook_post(torch.relu(b.mlp.hook_pre(x @ b.mlp.W_in + b.mlp.b_in)))
        x = b.hook_resid_post(x + b.hook_mlp_out(self.scale * (post @ b.mlp.W_out + b.mlp.b_out)))
        return x @ self.W_U


CONFIG = ModelConfig(p=P, d_model=10, n_heads=2, d_head=3, d_mlp=9)


def own_state() -> dict:
    return random_state(CONFIG, seed=4) | {"unembed.b_U": torch.zeros(P + 1, dtype=torch.float64)}


@pytest.mark.parametrize("at", SITES)
def test_a_module_of_ones_own_gives_the_transformers_numbers(at):
    state = own_state()
    theirs, ours = build_transformer(CONFIG, state=state, dtype=torch.float64), OwnModel(state)
    for keep in (False, True):
        options = {"at": at, "keep": keep, "directions": "block"}
        assert_close(ablate(ours, (2, 3), **options).logits, ablate(theirs, (2, 3), **options).logits)


def test_a_module_of_ones_own_is_read():
    state = own_state()
    theirs, ours = build_transformer(CONFIG, state=state, dtype=torch.float64), OwnModel(state)
    one, other = read_activations(ours), read_activations(theirs)
    for name in ("logits", "neurons", "attention"):
        assert_close(getattr(one, name), getattr(other, name))
    assert list(one.writes) == list(other.writes)
    assert_close(read_weights(ours).neuron_to_logit, read_weights(theirs).neuron_to_logit)
    assert "unembed.b_U" not in state_of(ours)
    found = OwnModel(circuit_state(13))
    assert tuple(key_frequencies(found)) == (2, 5, 6)


def test_a_model_that_only_looks_like_the_papers_is_not_taken_for_it():
    """The quick way is exact for the paper's architecture; this module says it is that, and scales its MLP."""
    model = OwnModel(own_state(), scale=3.0)
    model.cfg = SimpleNamespace(normalization_type=None, act_fn="relu")
    tokens = task_of(model).flat_tokens()
    assert_close(read_activations(model).logits, model(tokens)[:, -1, :P].reshape(P, P, P))


def test_a_model_without_the_usual_weights_is_one_sentence():
    with pytest.raises(ValueError, match="this OwnModel has no blocks.0.attn.W_O: a model needs"):
        model = OwnModel(own_state())
        del model.blocks[0].attn.W_O
        state_of(model)


@pytest.mark.parametrize("norm", ["LN", "LNPre"])
def test_a_gpt2_shaped_model_on_a_task_of_ones_own(norm):
    model, task = gpt2_shaped(norm), language_task()
    logits = model(task.flat_tokens())[:, -1][:, task.outputs].detach().double().reshape(P, P, P)
    activations = read_activations(model, task)
    assert_close(activations.logits, logits, dtype=torch.float32)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), task.answers.flatten())
    kept = ablate(model, [1, 2, 3], keep=True, directions="block", task=task, at="mlp_post")
    assert_close(kept.baseline_loss, loss, dtype=torch.float32)
    for at in SITES:
        for layer in (None, 0) if at not in ("embed", "logits") else (None,):
            result = ablate(model, 2, at=at, layer=layer, directions="block", task=task)
            assert result.hooks_fired == 1 and result.change > 1e-3
    for rule in ("neurons", "neuron_logit_map", "embedding", "excluded_loss"):
        assert len(key_frequencies(model, by=rule, task=task).evidence) == P // 2
    weights = read_weights(model, task)
    table = residual_table(activations, weights, task.answers)
    right = activations.logits.gather(2, task.answers[..., None])[..., 0] - activations.logits.mean(dim=2)
    assert table.right_logit.to_numpy().sum() == pytest.approx(right.mean().item(), abs=1e-9)
    assert {"L0 head 0", "L1 mlp"} <= set(table.right_logit.index)
    if norm == "LN":
        assert "final LayerNorm bias" in table.right_logit.index


def test_a_task_without_sum_directions_says_so():
    task = language_task()
    products = GridTask(**{name: getattr(task, name) for name in ("p", "tokens", "outputs", "operands_at")}
                        | {"answers": torch.outer(torch.arange(P), torch.arange(P)) % P})  # fmt: skip
    model = gpt2_shaped()
    assert ablate(model, 2, at="mlp_post", directions="block", task=products).change > 1e-3
    with pytest.raises(ValueError, match="every answer is right equally often.*take directions='block'"):
        ablate(model, 2, at="mlp_post", task=products)


def test_a_norm_whose_parts_do_not_add_up_says_so():
    model = gpt2_shaped("RMS")
    with pytest.raises(ValueError, match=r"up to a final LayerNorm \(LN, LNPre\), this model has RMS"):
        read_activations(model, language_task())


def test_weights_alone_decide_the_size():
    with pytest.raises(ValueError, match="cannot tell the task of a model with d_vocab=20, d_vocab_out=20, n_ctx=5"):
        task_of(gpt2_shaped())
