"""Both majors of TransformerLens: the same numbers, and each reads what the other wrote.

Within one environment only half of it can run; `make test-tl4` runs it in the other one, with OTHER_MAJOR naming the
folder in which `python -m tests.majors` left its numbers and its checkpoint.
"""

import json
import os
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from fourier_circuits.cli import app
from fourier_circuits.model.formats import load_model, save_state
from fourier_circuits.model.lens import state_of
from tests import majors
from tests.planted import random_state
from tests.tolerance import assert_close

OTHER = os.environ.get("OTHER_MAJOR")
needs_other = pytest.mark.skipif(OTHER is None, reason="make test-tl4 gives the numbers of the other major")
HEADS = {"n_heads": majors.CONFIG.n_heads}


def test_this_majors_own_state_dict_is_read(tmp_path):
    model = majors.model().float()
    torch.save(model.state_dict(), tmp_path / "own.pt")
    native = "embed.weight" in model.state_dict()
    loaded = load_model(tmp_path / "own.pt", **(HEADS if native else {}))
    for name, tensor in state_of(model).items():
        assert torch.equal(state_of(loaded)[name], tensor), name


def native_layout(state: dict) -> dict:
    """TransformerLens 4's layout, written down once more."""
    heads, d_model, d_head = state["blocks.0.attn.W_Q"].shape
    found = {"embed.weight": state["embed.W_E"], "pos_embed.weight": state["pos_embed.W_pos"]}
    for kind in "QKV":
        weight = torch.stack([state[f"blocks.0.attn.W_{kind}"][h, :, e] for h in range(heads) for e in range(d_head)])
        found[f"blocks.0.attn.{kind.lower()}.weight"] = weight
        found[f"blocks.0.attn.{kind.lower()}.bias"] = state[f"blocks.0.attn.b_{kind}"].flatten()
    rows = [state["blocks.0.attn.W_O"][h, e] for h in range(heads) for e in range(d_head)]
    found["blocks.0.attn.o.weight"], found["blocks.0.attn.o.bias"] = torch.stack(rows).T, state["blocks.0.attn.b_O"]
    for kind in ("in", "out"):
        found[f"blocks.0.mlp.{kind}.weight"] = state[f"blocks.0.mlp.W_{kind}"].T
        found[f"blocks.0.mlp.{kind}.bias"] = state[f"blocks.0.mlp.b_{kind}"]
    return found | {"unembed.weight": state["unembed.W_U"].T, "unembed.bias": state["unembed.b_U"]}


def test_a_state_dict_of_transformer_lens_4_needs_its_number_of_heads(tmp_path):
    state = {name: tensor.float() for name, tensor in random_state(majors.CONFIG).items()}
    torch.save(native_layout(state), tmp_path / "native.pt")
    with pytest.raises(ValueError, match="does not say how many heads it has: pass n_heads"):
        load_model(tmp_path / "native.pt")
    with pytest.raises(ValueError, match="6 wide, which 4 heads do not divide"):
        load_model(tmp_path / "native.pt", n_heads=4)
    loaded = state_of(load_model(tmp_path / "native.pt", n_heads=2))
    told = CliRunner().invoke(app, ["analyse", str(tmp_path / "native.pt"), "--n-heads", "2", "--json"])
    assert told.exit_code == 0 and json.loads(told.output)["p"] == majors.CONFIG.p
    for name, tensor in state.items():
        assert torch.equal(loaded[name], tensor), name


@needs_other
def test_the_other_environment_is_the_other_major():
    theirs = json.loads((Path(str(OTHER)) / "numbers.json").read_text())["version"]
    assert {theirs.split(".")[0], version("transformer-lens").split(".")[0]} == {"3", "4"}


@needs_other
def test_ablations_agree_at_every_site():
    theirs = json.loads((Path(str(OTHER)) / "numbers.json").read_text())["ablations"]
    ours = majors.ablations()
    assert set(ours) == set(theirs) and len(ours) == 34
    for name, logits in ours.items():
        assert_close(torch.tensor(logits), torch.tensor(theirs[name]), relative=1e-6, because="written as float32")


@needs_other
def test_the_reproduction_tables_agree():
    theirs = json.loads((Path(str(OTHER)) / "numbers.json").read_text())["reproduction"]
    ours = majors.flat(majors.reproduction())
    assert set(ours) == set(theirs) and len(ours) > 150
    for name, value in ours.items():
        assert value == pytest.approx(theirs[name], rel=1e-6, abs=1e-12), name


@needs_other
def test_each_reads_what_the_other_wrote(tmp_path):
    """A state dict of the other major; and checkpoints of ours, which are the same bytes under both."""
    path = Path(str(OTHER)) / "checkpoint.pt"
    native = "embed.weight" in torch.load(path, weights_only=True)
    theirs = state_of(load_model(path, **(HEADS if native else {})))
    ours = state_of(majors.model().float())
    for name, tensor in ours.items():
        assert torch.equal(theirs[name], tensor), name
    save_state(tmp_path / "again.safetensors", ours, majors.CONFIG)
    assert all(torch.equal(t, state_of(load_model(tmp_path / "again.safetensors"))[n]) for n, t in ours.items())
